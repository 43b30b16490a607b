"""Rollups by the hour and by the day: see the SQL file of the same number."""

from __future__ import annotations

from telemetry.store.migrations.sql import run_file

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_file(revision)
