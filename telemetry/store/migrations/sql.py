"""Runs the SQL file of a revision as it lies there, on the driver's own connection."""

from __future__ import annotations

from importlib.resources import files

from alembic import op


def run_file(revision: str) -> None:
    """Execute ``<revision>_*.sql``; many statements, no parameters, so ``%`` and ``:`` mean nothing."""
    folder = files("telemetry.store.migrations")
    (name,) = [
        f.name for f in folder.iterdir() if f.name.startswith(f"{revision}_") and f.name.endswith(".sql")
    ]
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(folder.joinpath(name).read_text(encoding="utf-8"))
