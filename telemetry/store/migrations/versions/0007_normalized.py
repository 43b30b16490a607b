"""Normalized payloads kept with their frames: see the SQL file of the same number."""

from __future__ import annotations

from telemetry.store.migrations.sql import run_file

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_file(revision)
