"""Owners, facilities, units, and who belonged to whom when: see the SQL file of the same number."""

from __future__ import annotations

from telemetry.store.migrations.sql import run_file

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_file(revision)
