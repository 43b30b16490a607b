"""A simulation that is scored: what it published is waited for until it is stored and evaluated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg

from simulators.message import Message
from simulators.scenario import Scenario
from simulators.score import Score
from simulators.sheet import AnswerSheet
from telemetry.clock import SystemClock
from telemetry.errors import QuantracError
from telemetry.store.pool import async_connect

from .scoring import score_store

_LOOK_S = 0.25
_SLACK = timedelta(minutes=1)
# Each writes readings of its own, which the next one sees, in the transaction that moves it on.
_FOLLOWERS = (
    ("increments", "increments of {} batches are to be worked out; is `quantrac ingest` running?"),
    ("quality", "{} batches are to be judged; is `quantrac ingest` running?"),
    ("alerting", "alerting has {} batches to see; is `quantrac alert` running?"),
)
_STORED = """
    SELECT count(*) AS n FROM uplink u JOIN device d ON d.id = u.device_id
    WHERE d.dev_eui = ANY(%(euis)s) AND u.time >= %(since)s AND u.time <= %(until)s::timestamptz
      AND u.ingest_time >= %(began)s::timestamptz
"""
_WRITTEN = "SELECT id, seq FROM lane"
_UNSEEN = """
    SELECT coalesce(sum(greatest(t.seq - coalesce(c.seq, 0), 0)), 0)::bigint AS n
    FROM unnest(%(lanes)s::int[], %(seqs)s::bigint[]) AS t (lane, seq)
    LEFT JOIN follower_cursor c ON c.follower = %(follower)s AND c.lane = t.lane
"""

Connection = psycopg.AsyncConnection[dict[str, Any]]


class Rehearsal:
    """One run of a scenario, from before its first message on; `published` is to be told of all of them.

    One that is not `flat_out` may go on later than its answer sheet says. Of one that `may_be_stored`, as its
    start was chosen, frames count that were there before.
    """

    def __init__(self, scenario: Scenario, *, flat_out: bool, may_be_stored: bool) -> None:
        self._euis = [device.dev_eui for device in scenario.registrations().devices]
        self._flat_out = flat_out
        self._began = None if may_be_stored else SystemClock().now()
        self._frames: set[int] = set()

    def published(self, message: Message) -> None:
        """Count its frame, once however often it is delivered."""
        if message.topic.endswith("/up"):  # as all servers' topics of uplinks do, and no others
            self._frames.add(hash((message.topic, message.payload)))

    async def score(self, url: str, sheet: AnswerSheet, patience: float) -> Score:
        """What the alerts say, once all frames are stored and alerting has seen what came of them.

        Raises:
            QuantracError: nothing moved for `patience` seconds; says what is behind.
        """
        async with await async_connect(url, application="quantrac simulate", autocommit=True) as connection:
            await self._stored(connection, sheet, patience)
            for follower, behind in _FOLLOWERS:
                rows = await (await connection.execute(_WRITTEN)).fetchall()
                lanes = {"lanes": [row["id"] for row in rows], "seqs": [row["seq"] for row in rows]}
                unseen = partial(_number, connection, _UNSEEN, {**lanes, "follower": follower})
                await _none_left(unseen, behind, patience)
        return await score_store(url, sheet)

    async def _stored(self, connection: Connection, sheet: AnswerSheet, patience: float) -> None:
        wanted = {
            "euis": self._euis,
            "since": sheet.starts - _SLACK,
            "until": sheet.ends + _SLACK if self._flat_out else "infinity",
            "began": self._began or "-infinity",
        }

        async def missing() -> int:
            return len(self._frames) - await _number(connection, _STORED, wanted)

        behind = (
            f"{{}} of {len(self._frames):,} frames are not stored; is `quantrac ingest` running, does it "
            "listen to this broker, and does `quantrac rejects list` show them?"
        )
        await _none_left(missing, behind, patience)


async def _none_left(left: Callable[[], Awaitable[int]], behind: str, patience: float) -> None:
    least, moved = None, time.monotonic()
    while (count := await left()) > 0:
        now = time.monotonic()
        if least is None or count < least:
            least, moved = count, now
        elif now - moved > patience:
            raise QuantracError(f"score: nothing moved for {patience:g} s: {behind.format(f'{count:,}')}")
        await asyncio.sleep(_LOOK_S)


async def _number(connection: Connection, query: str, values: dict[str, Any]) -> int:
    row = await (await connection.execute(query, values)).fetchone()
    assert row is not None
    return int(row["n"])
