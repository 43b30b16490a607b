"""Decoding stored frames again, and versions of maps: see the SQL file of the same number."""

from __future__ import annotations

from telemetry.store.migrations.sql import run_file

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_file(revision)
