"""One `quantrac up` per data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from quantrac.embedded.files import private_folder
from telemetry.errors import UsageError


class DataDirLock:
    """Holds the data folder for this process; makes it (0700) when missing.

    The kernel drops the lock (flock(2)) with the process that holds it, however that ends: there are no stale
    locks. Keep the object as long as the folder is used. The text in the file only serves the message that a
    second process shows.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Raises `UsageError` naming the holder when another process has the folder."""
        folder = private_folder(self._folder)
        try:
            file = (folder / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"Cannot lock {folder}: {error.strerror}. Give its files to the user who runs Quantrac, "
                "or choose another folder with --data / QUANTRAC_DATA_DIR."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid, _, since = file.read().strip().partition("\n")
            file.close()
            raise UsageError(
                f"{folder} is already run by process {pid or 'unknown'} (since {since or 'just now'}). "
                "Stop it first or choose another folder with --data / QUANTRAC_DATA_DIR."
            ) from None
        except OSError as error:
            file.close()
            raise UsageError(
                f"{folder} is on a file system that cannot lock files ({error.strerror}). "
                "Choose a folder on a local disk with --data / QUANTRAC_DATA_DIR."
            ) from error
        self._file = file
        with contextlib.suppress(OSError):  # a full disk costs the message, not the lock
            file.truncate(0)
            file.write(f"{os.getpid()}\n{datetime.now(UTC).isoformat(timespec='seconds')}\n")
            file.flush()

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> DataDirLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
