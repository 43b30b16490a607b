"""One export into one file: beside it while it grows, under its name when it is whole."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from telemetry.errors import QuantracError, UsageError
from telemetry.files import sync_folder

from .selection import Selection
from .table import Block, Key, Source
from .text import CsvSink, NdjsonSink, State, folder_of

CHECKPOINT_ROWS = 500_000

Tell = Callable[[int, float], None]
"""Called after every block with the rows and the share that is done; what it raises ends the export."""


class Sink(Protocol):
    """A format that writes blocks into a file."""

    def write(self, block: Block) -> None: ...
    def checkpoint(self) -> State | None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class BeingWritten(UsageError):
    """Another process has this file under way; later it may be done, or left."""


class Progress(NamedTuple):
    """How far an interrupted export came, as the file beside it tells."""

    selection: dict[str, Any]
    rows: int
    key: Key
    sink: State


def write_export(
    source: Source, selection: Selection, file: Path, *, version: str, resume: bool, tell: Tell
) -> int:
    """Write the rows of `source` and give the file its name; returns how many there are.

    Until then it is `FILE.part`, with `FILE.part.json` telling how far it came. With `resume` an export
    of the same selection goes on from there; XLSX begins anew.

    Raises:
        BeingWritten: another export writes this file.
        UsageError: what was left here belongs to another selection.
        QuantracError: the disk is full.
    """
    part, notes = part_of(file), notes_of(file)
    with locked(file):
        begun = _read(notes, selection) if resume else None
        if begun is None or not _is_there(part, begun.sink):
            begun = None
            _forget(part, notes)
        try:
            rows = _write(source, selection, part, notes, begun, version, tell)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise QuantracError(
                f"{file.name}: the disk is full; free some. `quantrac export --resume` goes on from here."
            ) from error
        notes.unlink(missing_ok=True)  # first: notes of a file that is no longer there would mislead
        part.replace(file)
        sync_folder(file.parent)
        _forget(part, notes)
    return rows


def part_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def notes_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.part.json")


def selection_begun(file: Path) -> Selection | None:
    """What an interrupted export of this file was to hold; None when there is none to go on with."""
    progress = _load(notes_of(file))
    return Selection.model_validate(progress.selection) if progress else None


def discard(file: Path) -> None:
    """Remove what an interrupted export left."""
    _forget(part_of(file), notes_of(file))
    part_of(file).unlink(missing_ok=True)


def _is_there(part: Path, state: State) -> bool:
    """Whether what the notes tell of is still on the disk."""
    if "bytes" in state:
        return part.stat().st_size >= int(state["bytes"])
    return all((folder_of(part) / f"{number:06}.parquet").exists() for number in range(state["parts"]))


def _forget(part: Path, notes: Path) -> None:
    notes.unlink(missing_ok=True)
    shutil.rmtree(folder_of(part), ignore_errors=True)


def _write(
    source: Source,
    selection: Selection,
    part: Path,
    notes: Path,
    begun: Progress | None,
    version: str,
    tell: Tell,
) -> int:
    rows, since = (begun.rows if begun else 0), 0
    sink = _sink(source, selection, part, version, begun.sink if begun else None)
    try:
        for block in source.blocks(begun.key if begun else None):
            sink.write(block)
            rows += block.rows
            since += block.rows
            if since >= CHECKPOINT_ROWS and (state := sink.checkpoint()):
                _note(
                    notes, Progress(selection.model_dump(mode="json", by_alias=True), rows, block.key, state)
                )
                since = 0
            tell(rows, block.share)
        sink.finish()
    except BaseException:
        with suppress(OSError):
            sink.close()
        raise
    return rows


def _sink(source: Source, selection: Selection, part: Path, version: str, state: State | None) -> Sink:
    if selection.format == "csv":
        return CsvSink(part, selection, source.fields, state)
    if selection.format == "ndjson":
        return NdjsonSink(part, selection, source.fields, state)
    if selection.format == "parquet":
        from .parquet import ParquetSink, about  # 60 MB of library, which only these files need

        return ParquetSink(part, source.fields, about(selection, version), state)
    from .xlsx import XlsxSink

    return XlsxSink(part, selection, source.fields)


def _note(notes: Path, progress: Progress) -> None:
    """Put the notes in place as a whole: half of them would say that nothing was begun."""
    fresh = notes.with_name(f"{notes.name}.new")
    with fresh.open("w", encoding="utf-8") as out:
        json.dump(progress._asdict(), out)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(notes)


def _load(notes: Path) -> Progress | None:
    try:
        return Progress(**json.loads(notes.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise UsageError(f"{notes} is damaged; remove it and begin without --resume") from None


def _read(notes: Path, selection: Selection) -> Progress | None:
    progress = _load(notes)
    if progress and progress.selection != selection.model_dump(mode="json", by_alias=True):
        raise UsageError(f"{notes} belongs to an export of something else; begin without --resume")
    return progress


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Nobody else writes this file meanwhile. Raises `BeingWritten` when somebody does."""
    part = part_of(file)
    with part.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BeingWritten(f"{part}: another export is writing this file") from None
        yield
