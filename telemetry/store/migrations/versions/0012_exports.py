"""Exports that are made in the background: see the SQL file of the same number."""

from __future__ import annotations

from telemetry.store.migrations.sql import run_file

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run_file(revision)
