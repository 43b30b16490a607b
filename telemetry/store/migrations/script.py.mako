"""${message}: see the SQL file of the same number."""

from __future__ import annotations

from telemetry.store.migrations.sql import run_file

revision = "${up_revision}"
down_revision = "${down_revision}"


def upgrade() -> None:
    run_file(revision)
