"""What waits to be decoded again: rows of `decode_job`, of adopted devices and of redecodings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString, NamedTuple

import psycopg

from .again import FRAME_COLUMNS, Frame
from .text import storable

DISTANT_PAST = datetime(1, 1, 1, tzinfo=UTC)
DEVICE_LOCK = 0x71646563  # "qdec"

_ASKED = """
    SELECT d.id, d.dev_eui, n.frames FROM device d
    CROSS JOIN LATERAL (
        SELECT count(*) AS frames FROM uplink
        WHERE device_id = d.id AND time >= %(since)s
          AND time < coalesce(%(until)s::timestamptz, 'infinity')) n
    WHERE d.device_type IS NOT NULL AND n.frames > 0
      AND (%(device_type)s::text IS NULL OR d.device_type = %(device_type)s)
      AND (%(euis)s::text[] IS NULL OR d.dev_eui = ANY(%(euis)s))
    ORDER BY d.id
"""
_ORDER = """
    INSERT INTO redecoding (device_type, since, until, every_frame, detached, requested_by)
    VALUES (%(device_type)s, %(since)s, %(until)s, %(every_frame)s, %(detached)s, %(actor)s) RETURNING id
"""
_ADD = """
    INSERT INTO decode_job (redecoding_id, device_id, expected, requested_by)
    SELECT %s, device_id, expected, %s FROM unnest(%s::int4[], %s::int8[]) AS t (device_id, expected)
"""
# Of a redecoding only who ordered it works at its jobs, unless it was left to ingest.
_NEXT: LiteralString = """
    SELECT job.id, job.redecoding_id, device.dev_eui, r.since, r.until, coalesce(r.every_frame, false),
           job.reached_time, job.reached_id, job.recipe, job.error
    FROM decode_job job JOIN device ON device.id = job.device_id
    LEFT JOIN redecoding r ON r.id = job.redecoding_id
    WHERE job.state = 'waiting' AND {which}
    ORDER BY job.id LIMIT 1
    FOR NO KEY UPDATE OF job SKIP LOCKED
"""
_ADOPTIONS = _NEXT.format(which="job.redecoding_id IS NULL")
_DETACHED = _NEXT.format(which="r.detached")
_OF_ONE = _NEXT.format(which="job.redecoding_id = %(redecoding)s")
ANY_WAITING = """
    SELECT FROM decode_job job LEFT JOIN redecoding r ON r.id = job.redecoding_id
    WHERE job.state = 'waiting' AND (job.redecoding_id IS NULL OR r.detached) LIMIT 1
"""
_WINDOW = f"""
    SELECT {FRAME_COLUMNS} FROM uplink
    WHERE device_id = %(device_id)s AND time >= %(from)s AND (time, id) > (%(from)s, %(after)s)
      AND time < coalesce(%(until)s::timestamptz, 'infinity')
      AND (%(decoded)s OR decoded_by IS NULL)
    ORDER BY time, id LIMIT %(most)s
"""  # noqa: S608
_BEFORE = f"""
    SELECT {FRAME_COLUMNS} FROM uplink
    WHERE device_id = %s AND time >= %s AND time <= %s AND (time, id) <= (%s, %s)
    ORDER BY time DESC, id DESC LIMIT %s
"""  # noqa: S608
_REACHED = """
    UPDATE decode_job SET
        reached_time = %(time)s, reached_id = %(id)s, recipe = %(recipe)s,
        frames = %(frames)s + CASE WHEN %(anew)s THEN 0 ELSE frames END,
        readings = %(readings)s + CASE WHEN %(anew)s THEN 0 ELSE readings END,
        changed = %(changed)s + CASE WHEN %(anew)s THEN 0 ELSE changed END,
        untouched = %(untouched)s + CASE WHEN %(anew)s THEN 0 ELSE untouched END,
        error = coalesce(%(error)s, CASE WHEN %(anew)s THEN NULL ELSE error END)
    WHERE id = %(job)s
"""
_END = "UPDATE decode_job SET state = %s, finished_at = now(), error = %s WHERE id = %s"


class Span(NamedTuple):
    """Of frames, by their time: `since` belongs to it, `until` (None: no end) no longer."""

    since: datetime
    until: datetime | None


class Asked(NamedTuple):
    """A device with frames in a span, and how many."""

    device_id: int
    dev_eui: str
    frames: int


class Job(NamedTuple):
    """One device's frames; without a redecoding those that nobody decoded yet, of any time.

    Up to (`reached_time`, `reached_id`) they are done, by what `recipe` tells, but for some with an `error`.
    """

    id: int
    redecoding_id: int | None
    dev_eui: str
    since: datetime | None
    until: datetime | None
    every_frame: bool
    reached_time: datetime | None
    reached_id: int | None
    recipe: str | None
    error: str | None

    @property
    def span(self) -> Span:
        return Span(self.since or DISTANT_PAST, self.until)


class Progress(NamedTuple):
    """What a window came to. `error` is a word on the last frame that could not be done."""

    frames: int
    readings: int = 0
    changed: int = 0
    untouched: int = 0
    error: str | None = None


def find_asked(
    cursor: psycopg.Cursor[Any], span: Span, device_type: str | None, euis: Collection[str] | None
) -> list[Asked]:
    """The registered devices of a type, those of some EUIs or both, that sent frames in this span."""
    values = {**span._asdict(), "device_type": device_type, "euis": None if euis is None else list(euis)}
    cursor.execute(_ASKED, values)
    return [Asked(*row) for row in cursor.fetchall()]


def order(
    cursor: psycopg.Cursor[Any],
    asked: Sequence[Asked],
    span: Span,
    device_type: str | None,
    *,
    every_frame: bool,
    detached: bool,
    actor: str,
) -> int:
    """A redecoding with a job for each of these devices; returns its number."""
    values = {
        **span._asdict(),
        "device_type": device_type,
        "every_frame": every_frame,
        "detached": detached,
        "actor": actor,
    }
    row = cursor.execute(_ORDER, values).fetchone()
    assert row is not None
    cursor.execute(_ADD, (row[0], actor, [one.device_id for one in asked], [one.frames for one in asked]))
    return int(row[0])


def next_job(cursor: psycopg.Cursor[Any], redecoding: int | None) -> Job | None:
    """The oldest job that waits and nobody else works at, locked: of this redecoding; without one those that
    are left to ingest, adoptions first."""
    for query in (_ADOPTIONS, _DETACHED) if redecoding is None else (_OF_ONE,):
        row = cursor.execute(query, {"redecoding": redecoding}).fetchone()
        if row is not None:
            return Job(*row)
    return None


def lock_devices(cursor: psycopg.Cursor[Any], device_ids: Collection[int]) -> None:
    """Until the transaction ends nobody else decodes stored frames of these devices. Read them afterwards."""
    cursor.execute(
        "SELECT pg_advisory_xact_lock(%s, n) FROM unnest(%s::int4[]) AS n", (DEVICE_LOCK, sorted(device_ids))
    )


def read_window(
    cursor: psycopg.Cursor[Any],
    device_id: int,
    span: Span,
    after: tuple[datetime, int] | None,
    most: int,
    *,
    decoded: bool = True,
) -> list[Frame]:
    """The next frames of a device in order of time; without `decoded` those that nobody decoded yet."""
    start, id_ = after or (span.since, -1)
    values = {"device_id": device_id, "from": start, "after": id_, "until": span.until, "most": most}
    cursor.execute(_WINDOW, {**values, "decoded": decoded})
    return [Frame(*row) for row in cursor.fetchall()]


def read_before(
    cursor: psycopg.Cursor[Any], device_id: int, since: datetime, last: tuple[datetime, int], most: int
) -> list[Frame]:
    """The frames of a device from `since` to the one that was looked at last, that included; the newest."""
    cursor.execute(_BEFORE, (device_id, since, last[0], *last, most))
    return [Frame(*row) for row in cursor.fetchall()]


def reached(
    cursor: psycopg.Cursor[Any], job: Job, last: Frame, recipe: str, done: Progress, *, anew: bool
) -> None:
    """Note how far a job got, in the transaction of what it changed; `anew`: it began once more."""
    if done.error is not None:
        done = done._replace(error=storable(done.error))
    place = {"time": last.time, "id": last.id, "recipe": recipe, "anew": anew, "job": job.id}
    cursor.execute(_REACHED, {**done._asdict(), **place})


def end(cursor: psycopg.Cursor[Any], job_id: int, error: str | None) -> None:
    """The job is done; with an error it failed, for some of its frames at least."""
    cursor.execute(_END, ("done" if error is None else "failed", error and storable(error), job_id))
