"""One export job as a process of its own: python -m api.exports.child, with its orders on stdin.

So its memory goes when it ends, and it takes no time from those who wait for an answer. It ends with its
parent: stdin is closed then.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import psycopg

from telemetry.errors import QuantracError
from telemetry.store.pool import connect

from .files import BeingWritten, discard
from .jobs import JobGone, file_of_job, tell_done, tell_progress
from .run import export
from .selection import Selection

DONE, AGAIN, FAILED, GONE = 0, 75, 65, 69
# Connections broken, serialization, the server's end: https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY = ("08", "40", "57P0")


class Orders(msgspec.Struct, frozen=True):
    """What the parent wants: a job of this worker, into this folder, with at most so many bytes."""

    database_url: str
    worker: str
    id: UUID
    selection: str
    folder: str
    days: float
    space: int


def main() -> int:
    """The exit status tells the parent what to do next; a reason goes to stdout."""
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _work(orders)
    except JobGone:
        return GONE
    except psycopg.Error as error:
        return ended_by_database(error)
    except BeingWritten as error:
        _tell(error)
        return AGAIN
    except QuantracError as error:
        _tell(error)
        return FAILED
    return DONE


def _work(orders: Orders) -> None:
    selection = Selection.model_validate_json(orders.selection)
    file = file_of_job(Path(orders.folder), orders.id, selection)
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        connect(orders.database_url, application="quantrac export", autocommit=True) as reader,
        connect(orders.database_url, application="quantrac export", autocommit=True) as teller,
    ):

        def tell(rows: int, share: float) -> None:
            if _size(file.parent) >= orders.space:
                discard(file)
                raise QuantracError(
                    "There is no space left for exports; remove some, shorten the span, or raise "
                    "QUANTRAC_EXPORT_SPACE."
                )
            tell_progress(teller, orders.worker, orders.id, rows, share, datetime.now(UTC))

        rows = export(reader, selection, file, resume=True, tell=tell)
        now = datetime.now(UTC)
        tell_done(
            teller,
            orders.worker,
            orders.id,
            rows=rows,
            bytes=file.stat().st_size,
            sha256=_sha256(file),
            now=now,
            expires=now + timedelta(days=orders.days),
        )


def _tell(reason: object) -> None:
    """To the parent, who reads it when we have ended."""
    sys.stdout.write(f"{reason}\n")


def ended_by_database(error: psycopg.Error) -> int:
    """Later it may be back; what it refuses now it will refuse again."""
    state = error.sqlstate
    if isinstance(error, psycopg.OperationalError) and (state is None or state.startswith(_AWAY)):
        _tell("the database cannot be reached just now")
        return AGAIN
    _tell(f"the database refused: {' '.join(str(error).split())}")
    return FAILED


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):  # not the buffered one: its lock would stop our own ending
        pass
    os._exit(AGAIN)


if __name__ == "__main__":
    sys.exit(main())
