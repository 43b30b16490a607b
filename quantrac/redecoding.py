"""Ordering that stored frames are decoded again, and working it off: what `quantrac redecode` does."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from decoders.device_types import parse_device_type
from ingest.codecs import Codecs
from ingest.decode_jobs import Asked, Span, find_asked, order
from ingest.directory import Trial
from ingest.preview import Preview, Previewer
from ingest.redecode import Redecoder, Step, fence
from quantrac.texts import actor
from telemetry.catalogue import CATALOGUE
from telemetry.errors import QuantracError, UsageError
from telemetry.store.pool import connect
from telemetry.store.registry import read_device_types

_APPLICATION = "quantrac redecode"
_connect = partial(connect, application=_APPLICATION, autocommit=True)
_AGAIN = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
_HANGS = "a transaction of a writer hangs: `SELECT * FROM pg_stat_activity` tells which, end it"
_ACTIVATE = """
    UPDATE device_type SET codec = %(codec)s, codec_version = %(codec_version)s, mapping = %(map)s,
        updated_at = now()
    WHERE id = %(id)s AND NOT builtin
"""
_AUDIT = "INSERT INTO audit (actor, action, object, detail) VALUES (%s, 'device_type.put', %s, %s)"
_STATE = """
    SELECT r.id, r.device_type, r.since, r.until, r.every_frame, r.detached, r.requested_at, r.requested_by,
           count(*) AS devices, count(*) FILTER (WHERE state = 'waiting') AS waiting,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
           coalesce(sum(expected), 0)::int8 AS expected, coalesce(sum(frames), 0)::int8 AS frames,
           coalesce(sum(changed), 0)::int8 AS changed, coalesce(sum(untouched), 0)::int8 AS untouched,
           max(error) AS error
    FROM redecoding r JOIN decode_job job ON job.redecoding_id = r.id
    WHERE %(id)s::int8 IS NULL OR r.id = %(id)s
    GROUP BY r.id ORDER BY r.id DESC LIMIT %(most)s
"""
_CANCEL = """
    UPDATE decode_job SET state = 'cancelled', finished_at = now()
    WHERE redecoding_id = %s AND state = 'waiting'
"""


class Wish(NamedTuple):
    """Whose frames, of when; `changes` are what becomes of the device type first (`codec`, `map`, …)."""

    device_type: str | None
    euis: list[str] | None
    span: Span
    every_frame: bool
    changes: dict[str, Any]

    @property
    def trial(self) -> Trial | None:
        return Trial(self.device_type, self.changes) if self.device_type and self.changes else None


def preview(url: str, wish: Wish, codecs: Codecs, progress: Callable[[int, int], None]) -> Preview:
    """What it would change; nothing is written.

    Raises:
        UsageError: there is no such device type, or it cannot be read as wished.
    """
    with _connect(url) as connection:
        _check_type(connection, wish)
        looking = Previewer(connection, *codecs, every_frame=wish.every_frame, trial=wish.trial)
        _check_readable(looking.directory.problems, wish)
        asked = _asked(connection, wish)
        total = sum(one.frames for one in asked)
        return looking.run(asked, wish.span, lambda done: progress(done, total))


def begin(url: str, wish: Wish, codecs: Codecs, *, detached: bool) -> int | None:
    """Put what is wished into force and order the decoding; its number, None where there are no frames.

    Raises:
        UsageError: there is no such device type, it cannot be read as wished, or it comes with the program.
        QuantracError: a writer does not end; what is wished is in force all the same.
    """
    with _connect(url) as connection:
        _check_type(connection, wish)
        trying = Previewer(connection, *codecs, trial=wish.trial)
        _check_readable(trying.directory.problems, wish)
        if wish.trial is not None:
            with connection.transaction(), connection.cursor() as cursor:
                _activate(cursor, wish.trial)
        try:  # frames that are still read by what was in force before are among those we ask for
            fence(lambda: connect(url, application=_APPLICATION))
        except psycopg.errors.LockNotAvailable:
            raise QuantracError(f"nothing was ordered: {_HANGS}, then try again") from None
        with connection.transaction(), connection.cursor() as cursor:
            asked = _asked(connection, wish)
            if not asked:
                return None
            return order(
                cursor,
                asked,
                wish.span,
                wish.device_type,
                every_frame=wish.every_frame,
                detached=detached,
                actor=actor(),
            )


def work_off(url: str, number: int, codecs: Codecs, progress: Callable[[int, int], None]) -> bool:
    """Work at the jobs of a redecoding until none waits, or until a signal asks to stop (False).

    Raises:
        QuantracError: the database is away; what is done stays done.
    """
    redecoder = Redecoder(
        lambda: connect(url, application=_APPLICATION),
        writer="redecode",
        codecs=codecs.registry,
        javascript=codecs.javascript,
        redecoding=number,
    )
    found = find(url, number)
    done, total = found["frames"], found["expected"]

    def told(step: Step) -> None:
        nonlocal done
        done += step.frames
        progress(done, total)

    with _stopped_by_signals(redecoder.stop):
        while True:
            try:
                redecoder.run_waiting(told)
            except _AGAIN:
                continue
            except psycopg.errors.LockNotAvailable:
                raise QuantracError(f"{_HANGS}, then `quantrac redecode --resume {number}` goes on") from None
            except psycopg.OperationalError as error:
                raise QuantracError(
                    f"the database does not answer any more ({' '.join(str(error).split())}); what is done "
                    f"stays done, `quantrac redecode --resume {number}` goes on"
                ) from None
            return not find(url, number)["waiting"]


def find(url: str, number: int) -> dict[str, Any]:
    """The state of a redecoding.

    Raises:
        UsageError: there is none of this number.
    """
    rows = list_all(url, number)
    if not rows:
        raise UsageError(f"there is no redecoding {number}; `quantrac redecode --list` shows them")
    return rows[0]


def list_all(url: str, number: int | None = None, most: int = 50) -> list[dict[str, Any]]:
    """The newest redecodings with their progress, newest first."""
    with _connect(url) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(_STATE, {"id": number, "most": most}).fetchall()


def cancel(url: str, number: int) -> int:
    """Let its jobs that wait be; returns how many that were. What is decoded stays so."""
    find(url, number)
    with _connect(url) as connection:
        return connection.execute(_CANCEL, (number,)).rowcount


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first signal lets the step under way end; the second ends the program."""

    def handle(number: int, frame: object) -> None:
        stop()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_type(connection: psycopg.Connection[Any], wish: Wish) -> None:
    if wish.device_type is None:
        return
    types = {row["id"]: row for row in read_device_types(connection.cursor())}
    found = types.get(wish.device_type)
    if found is None:
        near = get_close_matches(wish.device_type, types, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; GET /api/v1/device-types lists them"
        raise UsageError(f"--device-type: there is no {wish.device_type!r}{hint}")
    if "codec" in wish.changes and found["codecs"]:
        raise UsageError(
            f"--codec: {wish.device_type} chooses its codec by firmware or time; change that over the API "
            f"(PUT /api/v1/device-types/{wish.device_type}) and leave --codec out"
        )
    own = connection.execute("SELECT FROM device_type WHERE id = %s AND NOT builtin", (wish.device_type,))
    if wish.changes and own.rowcount == 0:
        raise UsageError(
            f"--device-type: {wish.device_type} comes with the program, so its codec and map cannot be "
            "changed; make a device type of your own and give it to the devices"
        )
    parse_device_type({**found, **wish.changes}, CATALOGUE)


def _check_readable(problems: dict[str, str], wish: Wish) -> None:
    if problem := problems.get(wish.device_type or ""):
        raise UsageError(problem)


def _asked(connection: psycopg.Connection[Any], wish: Wish) -> list[Asked]:
    found = find_asked(connection.cursor(), wish.span, wish.device_type, wish.euis)
    if wish.euis is not None:
        known = connection.execute("SELECT dev_eui FROM device WHERE device_type IS NOT NULL").fetchall()
        if unknown := sorted(set(wish.euis) - {row[0] for row in known}):
            raise UsageError(f"--device: {', '.join(unknown)} is not registered")
    return found


def _activate(cursor: psycopg.Cursor[Any], trial: Trial) -> None:
    (found,) = (row for row in read_device_types(cursor) if row["id"] == trial.device_type)
    wished = parse_device_type({**found, **trial.changes}, CATALOGUE).to_dict()
    values = {"codec_version": None, **wished, "map": Jsonb(wished["map"])}
    cursor.execute(_ACTIVATE, values)
    cursor.execute(_AUDIT, (actor(), trial.device_type, Jsonb(wished)))
