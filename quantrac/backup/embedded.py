"""The embedded database as a place to restore into."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quantrac.backup.manifest import Manifest
from quantrac.backup.restore import Course, Stage
from quantrac.embedded import DataDirLock, EmbeddedPostgres
from telemetry.errors import QuantracError


@contextmanager
def empty_database(data_dir: Path, manifest: Manifest, course: Course) -> Iterator[str]:
    """The address of a database in `data_dir`, which nobody else uses meanwhile; stopped at the end.

    When the block fails before the restore is whole, a database made here is removed again.

    Raises:
        UsageError: `quantrac up` runs on the folder.
        QuantracError: the backup is one of TimescaleDB, which the embedded server does not have.
    """
    if manifest.timescaledb:
        raise QuantracError(
            f"The backup needs TimescaleDB {manifest.timescaledb}, and the embedded database has none. "
            "Set QUANTRAC_DATABASE_URL to an empty database on a server with that version."
        )
    home = data_dir / "postgres"
    with DataDirLock(data_dir):
        made = not home.exists()
        server = EmbeddedPostgres(data_dir)
        try:
            yield server.start()
        except BaseException:
            server.stop()
            if made and course.stage is not Stage.WHOLE:
                shutil.rmtree(home, ignore_errors=True)
                course.stage = Stage.BEFORE
            raise
        server.stop()
