"""The file of a backup: written whole or not at all, and read back."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from quantrac.backup.manifest import Manifest, Part, read
from telemetry.errors import QuantracError, UsageError
from telemetry.files import sync_folder

DUMP = "database.dump.zst"
BESIDE = "beside/"
_MANIFEST = "manifest.json"
_CHUNK = 1024 * 1024
_LOOK_EVERY = 64 * _CHUNK
# Kept free, since the database may lie on the same disk and stops when that is full.
RESERVE = 256 * _CHUNK


class Writer:
    """Adds parts to a backup under way."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.parts: dict[str, Part] = {}
        self._path = path
        self._zip = archive
        self._unlooked = 0

    def add(self, name: str, chunks: Iterator[bytes]) -> None:
        """One part, as it comes.

        Raises:
            QuantracError: the disk is nearly full.
        """
        digest, size = hashlib.sha256(), 0
        with self._zip.open(_entry(name), "w", force_zip64=True) as file:
            for chunk in chunks:
                self._look(len(chunk))
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        self.parts[name] = Part(size, digest.hexdigest())

    def finish(self, manifest: Manifest) -> None:
        """The manifest comes last: a file without it is no backup."""
        self._zip.writestr(_entry(_MANIFEST), msgspec.json.format(msgspec.json.encode(manifest), indent=1))

    def _look(self, more: int) -> None:
        self._unlooked += more
        if self._unlooked < _LOOK_EVERY:
            return
        self._unlooked = 0
        free = shutil.disk_usage(self._path.parent).free
        if free < RESERVE:
            raise QuantracError(
                f"{self._path.parent} is nearly full ({free // _CHUNK} MiB free); nothing was kept. "
                "Make room or choose another disk."
            )


@contextmanager
def writing(path: Path, *, force: bool) -> Iterator[Writer]:
    """A backup that appears under its name when the block ends, complete and on the disk; else not at all.

    Until then it is `path` with `.part` behind, which only a `kill -9` leaves; the next backup to the same
    name takes its place.

    Raises:
        UsageError: the file is there already, another process writes it, or the folder is not writable.
        QuantracError: the disk is full.
    """
    part = path.with_name(f"{path.name}.part")
    _refuse_existing(path, force)
    with _locked(part) as file:
        try:
            file.truncate()
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                yield Writer(path, archive)
            file.flush()
            os.fsync(file.fileno())
            _refuse_existing(path, force)
            part.replace(path)
            sync_folder(path.resolve().parent)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise QuantracError(f"{part}: {error.strerror or error}; nothing was kept") from None
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _locked(part: Path) -> IO[bytes]:
    """The file, ours alone until it is closed."""
    while True:
        try:
            file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        except OSError as error:
            raise UsageError(f"{part}: cannot be written ({error.strerror})") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise UsageError(f"{part}: another backup is being written there") from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), part.stat()):
                return file
        # Its writer came to an end between our two calls: the lock is one of a finished backup.
        file.close()


def _refuse_existing(path: Path, force: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file in it")
    if path.exists() and not force:
        raise UsageError(f"{path}: is there already; choose another name, or --force to replace it")


def _stays_inside(name: str) -> bool:
    """Whether a part's path, as it was written, can only name a file below the folder it is put in."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _entry(name: str) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = 0o600 << 16
    return made


class Reader:
    """An existing backup."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._zip = archive
        try:
            text = archive.read(_MANIFEST)
        except (KeyError, zipfile.BadZipFile) as error:
            raise UsageError(f"{path}: is no complete backup of Quantrac ({error})") from None
        self.manifest = read(text, str(path))
        for name in self.manifest.parts:
            if name.startswith(BESIDE) and not _stays_inside(name.removeprefix(BESIDE)):
                raise self._damaged(name, "its path leads outside")
        if DUMP not in self.manifest.parts:
            raise UsageError(f"{path}: its manifest names no {DUMP}. Take another backup.")

    @property
    def size(self) -> int:
        return sum(part.bytes for part in self.manifest.parts.values())

    def check(self, progress: Callable[[int, int], None]) -> None:
        """Read all of it and compare with the manifest.

        Raises:
            QuantracError: a part is missing or is not what was written.
        """
        done = 0
        for name, part in self.manifest.parts.items():
            digest = hashlib.sha256()
            try:
                with self.open(name) as file:
                    while chunk := file.read(_CHUNK):
                        digest.update(chunk)
                        done += len(chunk)
                        progress(done, self.size)
            except (KeyError, zipfile.BadZipFile, EOFError) as error:
                raise self._damaged(name, str(error)) from None
            if digest.hexdigest() != part.sha256:
                raise self._damaged(name, "its SHA-256 differs from the manifest's")

    def open(self, name: str) -> IO[bytes]:
        """A part, to be read and closed by the caller."""
        return self._zip.open(name)

    def beside(self) -> dict[str, bytes]:
        """The files beside the database by their relative paths."""
        return {
            name.removeprefix(BESIDE): self._zip.read(name)
            for name in self.manifest.parts
            if name.startswith(BESIDE)
        }

    def _damaged(self, name: str, why: str) -> QuantracError:
        return QuantracError(f"{self._path}: {name} is damaged ({why}). Use another backup.")


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Raises `UsageError` when it is no backup, or an incomplete one."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield Reader(path, archive)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except zipfile.BadZipFile:
        raise UsageError(f"{path}: is no complete backup of Quantrac; it may have been cut short") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
