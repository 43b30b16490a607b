"""What is kept, and for how long: see the SQL file of the same number."""

from __future__ import annotations

from telemetry.store.migrations.sql import run_file

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_file(revision)
