"""Quality tests that need more than one reading, and people's word: see the SQL file of the same number."""

from __future__ import annotations

from telemetry.store.migrations.sql import run_file

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_file(revision)
