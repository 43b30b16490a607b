"""The spine: see the SQL file of the same number."""

from __future__ import annotations

from telemetry.store.migrations.sql import run_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_file(revision)
