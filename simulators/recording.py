"""Recordings: NDJSON of raw messages, written so that what was written is there, read whatever its end."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import structlog

from telemetry.errors import QuantracError, UsageError
from telemetry.files import sync_folder

from .message import Message

_log = structlog.get_logger(__name__)
PART = ".part"
"""What the name of a file ends in that is not whole."""
LARGEST = 64 * 2**20
LONGEST = timedelta(hours=1)
_GZIP = 31  # zlib's window bits: 15, and gzip's head and tail
_MAGIC = b"\x1f\x8b"
_LEVEL = 1  # a fifth of the time of the usual 6, a quarter more bytes
_CHUNK = 1 << 18
_LONGEST_LINE = 64 * 2**20  # far more than a broker lets through
_SHOWN = 10
_NAMES = {".ndjson", ".jsonl"}


class RecordingError(QuantracError):
    """The disk does not take what is to be recorded."""


class Recording:
    """Writes messages to `target`: a file, or a folder of files that follow each other.

    A target that has no suffix is a folder. In it a file ends when it is `largest` bytes or `longest` old,
    and is named after the arrival of its first message. Names in ``.gz`` are compressed. Until it is whole,
    a file's name ends in ``.part``; that is readable too, to the last `append` that returned.

    Raises:
        UsageError: the file exists, or was begun and cut, or nothing can be written there.
    """

    def __init__(self, target: Path, *, largest: int = LARGEST, longest: timedelta = LONGEST) -> None:
        self._target = target
        self._in_folder = target.is_dir() or not target.suffix
        self._largest = largest
        self._longest = longest
        self._open: _Part | None = None
        self.files: list[Path] = []
        folder = target if self._in_folder else target.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be made: {error.strerror}") from None
        if not os.access(folder, os.W_OK):
            raise UsageError(f"{folder}: may not be written to")
        if not self._in_folder:
            _refuse(target)

    def append(self, messages: Sequence[Message]) -> None:
        """Write them; they are on the disk when this returns.

        Raises:
            RecordingError: the disk is full or failed. What earlier calls wrote is readable in the ``.part``.
        """
        if not messages:
            return
        try:
            part = self._part(messages[0].time)
            part.write("".join([message.line() + "\n" for message in messages]).encode())
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Give the open file its name.

        Raises:
            RecordingError: the disk is full or failed.
        """
        part, self._open = self._open, None
        if part is not None:
            try:
                part.finish()
            except OSError as error:
                self._open = part
                raise self._failed(error) from error
            self.files.append(part.path)

    def discard(self) -> None:
        """Remove the open file."""
        part, self._open = self._open, None
        if part is not None:
            part.abandon()
            _part_of(part.path).unlink()

    def _part(self, time: datetime) -> _Part:
        if self._in_folder and self._open is not None and self._is_full(self._open, time):
            self.close()
        if self._open is None:
            self._open = _Part(self._next(time) if self._in_folder else self._target, time)
        return self._open

    def _is_full(self, part: _Part, time: datetime) -> bool:
        return part.size >= self._largest or time - part.began >= self._longest

    def _next(self, time: datetime) -> Path:
        stamp, number = f"{time.astimezone(UTC):%Y%m%dT%H%M%SZ}", 1
        while True:
            path = self._target / f"{stamp}-{number:03d}.ndjson.gz"
            if not path.exists() and not _part_of(path).exists():
                return path
            number += 1

    def _failed(self, error: OSError) -> RecordingError:
        part, self._open = self._open, None
        if part is not None:
            part.abandon()
        where = _part_of(part.path) if part is not None else self._target
        return RecordingError(f"{where}: cannot be written: {error.strerror}")


class _Part:
    """One file while it is written."""

    def __init__(self, path: Path, began: datetime) -> None:
        self.path = path
        self.began = began
        self.size = 0
        self._packer = zlib.compressobj(_LEVEL, wbits=_GZIP) if path.suffix == ".gz" else None
        self._file = os.open(_part_of(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        sync_folder(path.parent)

    def write(self, data: bytes) -> None:
        if self._packer is not None:
            data = self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        self._put(data)

    def finish(self) -> None:
        if self._packer is not None:
            self._put(self._packer.flush())
        os.close(self._file)
        _part_of(self.path).rename(self.path)
        sync_folder(self.path.parent)

    def abandon(self) -> None:
        """Leave what is whole of it."""
        with suppress(OSError):
            os.ftruncate(self._file, self.size)
        with suppress(OSError):
            os.close(self._file)

    def _put(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]
        os.fsync(self._file)
        self.size += len(data)


class Recordings:
    """Messages of files and folders, file after file, in a folder by name; as often as it is iterated.

    What is no message is skipped and counted in `skipped`, with `strict` refused. `at` tells where we are.

    Raises:
        UsageError: a file that is missing or cannot be read, a folder without recordings; with `strict`,
            while it is iterated, the file and line that is no message, or where a file is cut.
    """

    def __init__(self, paths: Sequence[Path], *, strict: bool = False) -> None:
        self._strict = strict
        self._paths = [file for path in paths for file in _files(path)]
        self.skipped = 0
        self._file: Path | None = None
        self._line = 0

    @property
    def at(self) -> str:
        """File and line of the message that came last."""
        return f"{self._file}:{self._line}"

    def __iter__(self) -> Iterator[Message]:
        self.skipped = 0
        for path in self._paths:
            yield from self._messages(path)

    def _messages(self, path: Path) -> Iterator[Message]:
        self._file, self._line = path, 0
        try:
            with path.open("rb") as file:
                for line in _lines(file):
                    self._line += 1
                    if not line.strip():
                        continue
                    try:
                        message = Message.of(line)
                    except ValueError as error:
                        self._skip(f"{self.at}: no recorded message: {error}")
                    else:
                        yield message
        except _Cut as error:
            self._skip(f"{path}: {error} after line {self._line}")
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from None

    def _skip(self, problem: str) -> None:
        if self._strict:
            raise UsageError(problem)
        self.skipped += 1
        if self.skipped <= _SHOWN:
            _log.warning("recording_skipped", problem=problem)


class _Cut(Exception):
    """The rest of a file cannot be read: it has no proper end, or is no recording."""


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise UsageError(f"{path}: no such file")
        return [path]
    found = sorted(
        file
        for file in path.iterdir()
        if _NAMES & set(file.suffixes) and file.suffix in _NAMES | {".gz", PART}
    )
    if not found:
        raise UsageError(f"{path}: holds no recording (*.ndjson, *.ndjson.gz)")
    return found


def _lines(file: BinaryIO) -> Iterator[bytes]:
    pending = b""
    try:
        for chunk in _chunks(file):
            *lines, pending = (pending + chunk).split(b"\n")
            yield from lines
            _bound(pending)
    except _Cut:
        if pending:
            yield pending
        raise
    if pending:
        yield pending


def _bound(line: bytes) -> None:
    if len(line) > _LONGEST_LINE:
        raise _Cut(f"has a line of more than {_LONGEST_LINE >> 20} MiB, as no recording has,")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    data = file.read(_CHUNK)
    if not data.startswith(_MAGIC):
        while data:
            yield data
            data = file.read(_CHUNK)
        return
    unpacker = zlib.decompressobj(_GZIP)
    while data:
        try:
            yield unpacker.decompress(data, _CHUNK * 4)
        except zlib.error as error:
            raise _Cut(f"is damaged ({error})") from None
        data = unpacker.unconsumed_tail or unpacker.unused_data
        if unpacker.eof:
            unpacker = zlib.decompressobj(_GZIP)
            data = data or file.read(_CHUNK)
            if not data:
                return
        data = data or file.read(_CHUNK)
    raise _Cut("ends too early, as one does whose recorder was killed,")


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + PART)


def _refuse(path: Path) -> None:
    """What is no recording's name, or taken."""
    if path.suffix not in _NAMES | {".gz"}:
        raise UsageError(f"{path}: end the name in .ndjson or .ndjson.gz, or name a folder, without a dot")
    if path.exists():
        raise UsageError(f"{path}: exists already; name another file, or a folder for one after the other")
    if _part_of(path).exists():
        raise UsageError(
            f"{_part_of(path)}: was left by a recorder that was cut, and can be replayed as it is. "
            "Name another file, or a folder, in which every start begins a file of its own."
        )
