"""Keeps table `link` true to the frames: follows the lanes, a few seconds behind, at a bounded cost.

Whole rows are worked out again from the tables for whatever a commit touched, so doing it twice, late, or
in another order makes no difference. One process at a time does it; it rests fifty times as long as it
worked, so ingest keeps its CPU; under load that only makes the history lag.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import numpy as np
import psycopg
import structlog

from telemetry.clock import Clock, micros
from telemetry.store import lanes
from telemetry.store.leader import leading
from telemetry.store.pool import Pool
from telemetry.waiting import pause

from . import link_store as store
from .faults import blames_content
from .link import HOUR, SILENCE, HourOf, Outages, Tally, read_status, tally, union
from .link_store import Connection, Facts, LinkRow
from .repeat import Trouble

_log = structlog.get_logger()
FOLLOWER = "link"
LEADER = 0x716C6E6B  # "qlnk": held by the one process that does it
BATCHES = 2000
CHUNK = 20  # hours at once, so that a busy one keeps no message waiting for long
SHARE = 0.02
PASS_SECONDS = 5.0
MOST_REST_SECONDS = 30.0
_STATEMENT_SECONDS = 300

Rest = Callable[[float], Awaitable[None]]


class LinkJob:
    """Follows as long as `run` runs; any number of processes may have one.

    What it knows of our own outages only saves looking at them again.
    """

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._seen: dict[int, tuple[datetime, datetime]] = {}
        self._trouble = Trouble("link", PASS_SECONDS)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the history until `stop` is set; a database that is away is waited for."""

        async def rest(seconds: float) -> None:
            await pause(seconds, until=stop)

        while not stop.is_set():
            seconds = PASS_SECONDS
            try:
                await self._lead(rest, stop)
            except Exception as error:
                seconds = self._trouble.rest_after(error)
            await rest(seconds)

    async def _lead(self, rest: Rest, stop: asyncio.Event) -> None:
        async with leading(self._pool, LEADER) as leader:
            while leader is not None and not stop.is_set():
                async with self._pool.connection() as connection:
                    await self.follow(connection, rest, stop)
                self._trouble.over()
                await rest(PASS_SECONDS)
                await leader.check()

    async def follow(
        self, connection: Connection, rest: Rest | None = None, stop: asyncio.Event | None = None
    ) -> int:
        """One pass over what came since the last one; returns how many batches that was.

        Raises:
            psycopg.Error: the pass is done again later, wholly.
        """
        batches = await lanes.touched(connection, FOLLOWER, BATCHES)
        outages = await store.read_outages(connection, self._clock.now() - SILENCE)
        hours = _hours(batches)
        news = self._news(outages)
        if news:
            hours |= set(await store.read_lost_within(connection, news))
        known = Outages((micros(began), micros(ended)) for _, began, ended in outages)
        ordered = sorted(hours)
        for start in range(0, len(ordered), CHUNK):
            started = time.perf_counter()
            await _renew(connection, ordered[start : start + CHUNK], known)
            if rest is not None:
                await rest(min((time.perf_counter() - started) * (1 / SHARE - 1), MOST_REST_SECONDS))
            if stop is not None and stop.is_set():
                return 0
        if batches:
            async with connection.transaction():
                if await lanes.lock_follower(connection, FOLLOWER):
                    await lanes.advance(connection, FOLLOWER, batches)
        self._seen = {id_: (began, ended) for id_, began, ended in outages}
        return len(batches)

    def _news(self, outages: Sequence[tuple[int, datetime, datetime]]) -> list[tuple[datetime, datetime]]:
        """What of the outages no earlier pass knew; one that goes on grows."""
        news = []
        for id_, began, ended in outages:
            before = self._seen.get(id_)
            if before is None or began < before[0]:
                news.append((began, ended))
            elif ended > before[1]:
                news.append((before[1], ended))
        return news


def _hours(batches: Sequence[lanes.TouchedBatch]) -> set[HourOf]:
    if not batches:
        return set()
    touched = np.concatenate([batch.touched for batch in batches])
    packed = np.unique(touched["device_id"].astype(np.int64) << 32 | touched["hour"].astype(np.int64))
    return set(zip((packed >> 32).tolist(), (packed & 0xFFFFFFFF).tolist(), strict=True))


async def _renew(connection: Connection, hours: Sequence[HourOf], outages: Outages) -> None:
    """The rows of these hours; one that cannot be worked out costs only itself."""
    try:
        async with connection.transaction():
            # All statements see the same frames.
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await connection.execute(f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'")
            spans = await store.read_spans(connection, hours)
            await store.save(connection, spans, await _rows(connection, spans, outages))
    except Exception as error:
        if not blames_content(error) and not isinstance(error, psycopg.errors.QueryCanceled):
            raise
        if len(hours) == 1:
            _log.exception("link_hour_skipped", device_id=hours[0][0], hour=hours[0][1])
            return
        for half in (hours[: len(hours) // 2], hours[len(hours) // 2 :]):
            await _renew(connection, half, outages)


async def _rows(connection: Connection, spans: Sequence[store.Span], outages: Outages) -> list[LinkRow]:
    facts = {(f.device_id, f.hour): f for f in await store.read_facts(connection, spans)}
    frames = {key: found.frames for key, found in facts.items()}
    hours = tally(await store.read_steps(connection, spans), frames, outages)
    told = {
        key: (found.battery_at, found.battery)
        for key, found in facts.items()
        if found.battery_at is not None and found.battery is not None
    }
    margins: dict[HourOf, int] = {}
    for device_id, at, data in await store.read_statuses(connection, spans):
        key, status = (device_id, micros(at) // HOUR), read_status(data)
        if status.margin is not None:
            margins[key] = status.margin
        if status.battery is not None and (key not in told or at >= told[key][0]):
            told[key] = at, status.battery
    return [
        _row(key, hours.get(key, Tally()), facts.get(key), told.get(key), margins.get(key))
        for key in sorted(hours.keys() | told.keys() | margins.keys())
    ]


def _row(
    key: HourOf, counted: Tally, facts: Facts | None, told: tuple[datetime, float] | None, margin: int | None
) -> LinkRow:
    device_id, hour = key
    return LinkRow(
        time=store.hour_start(hour),
        device_id=device_id,
        received=counted.received,
        lost_on_air=counted.lost_on_air,
        lost_by_us=counted.lost_by_us,
        resets=counted.resets,
        rejoins=counted.rejoins,
        rssi=facts.rssi if facts else None,
        snr=facts.snr if facts else None,
        sf_min=facts.sf_min if facts else None,
        sf_max=facts.sf_max if facts else None,
        gateways=union(facts.gateways) if facts else [],
        battery=told[1] if told else None,
        margin=margin,
    )
