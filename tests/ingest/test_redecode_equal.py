"""Frames decoded again give what they would have given live, whatever was read from them before."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from ingest import redecode as module
from ingest.increments import IncrementJob
from telemetry.settings import StoreSettings
from telemetry.store.pool import async_pool
from tests.ingest.redecoding import jobs, place_order, redecode, redecoder, stored
from tests.ingest.says_json import CODECS, at, frame, register
from tests.ingest.store import keep_latest, writer

Database = psycopg.Connection[dict[str, Any]]
RECORDS = {"list": "log", "time": "t", "clock": "iso"}
MAPS: list[list[dict[str, Any]]] = [
    [],
    [{"field": "level", "metric": "water.level"}],
    [{"field": "level", "metric": "water.level", "scale": 0.1}],
    [
        {"field": "level", "metric": "water.level"},
        {"field": "level", "metric": "water.temperature", "channel": 1},
    ],
    [
        {"field": "level", "metric": "water.level"},
        {"field": "level", "metric": "water.level", "records": RECORDS},
    ],
    [{"field": "level", "metric": "water.level", "records": RECORDS}],
    [{"field": "level", "metric": "water.level", "records": {**RECORDS, "list": "old"}}],
    [{"field": "level", "metric": "water.level", "channel": 2, "records": {**RECORDS, "list": "old"}}],
    [{"field": "tips", "metric": "rain.total", "scale": 0.2}],
    [
        {"field": "tips", "metric": "rain.total", "scale": 0.5},
        {"field": "level", "metric": "rain.increment"},
    ],
]


def _log(records: list[tuple[int, float]]) -> list[dict[str, Any]]:
    return [{"t": at(minutes).isoformat(), "level": level} for minutes, level in records]


_minutes = st.integers(0, 20)
_levels = st.integers(0, 8).map(lambda n: n / 2)
_records = st.lists(st.tuples(_minutes, _levels), max_size=3).map(_log)
_fields = st.fixed_dictionaries(
    {}, optional={"level": _levels, "tips": st.integers(0, 9), "log": _records, "old": _records}
)
_frames = st.lists(st.tuples(_minutes, _fields), min_size=1, max_size=12)


async def _follow(url: str) -> None:
    """Bring what follows the lanes up to date."""
    async with async_pool(StoreSettings(database_url=url), application="test") as pool:
        job = IncrementJob(pool, writer="increments")
        while await job.step():
            pass
    await keep_latest(url)


def _reset(database: Database, mapping: list[dict[str, Any]], calibrated: bool) -> None:
    database.execute(
        "TRUNCATE uplink, reading, latest, lane, lane_batch, follower_cursor, decode_job, redecoding,"
        " superseded, logged_span, device, calibration, calibration_job RESTART IDENTITY CASCADE"
    )
    database.execute("DELETE FROM device_type WHERE id = 'says-json'")
    device = register(database, *mapping)
    if calibrated:
        database.execute(
            "INSERT INTO calibration (device_id, metric_id, channel, valid_from, definition)"
            " SELECT %s, id, 0, %s, %s FROM metric WHERE key = 'water.level'",
            (device, at(10), Jsonb({"gain": 2.0})),
        )


@example(frames=[(7, {"level": 3.5})], before=MAPS[-1], after=MAPS[-2], window=2, calibrated=True)
@given(
    frames=_frames,
    before=st.sampled_from(MAPS),
    after=st.sampled_from(MAPS),
    window=st.integers(1, 4),
    calibrated=st.booleans(),
)
@settings(
    max_examples=40,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # an example takes a second: shrinking many minutes
    suppress_health_check=list(HealthCheck),
)
def test_the_same_rows_as_live(
    database: Database,
    database_url: str,
    frames: list[tuple[int, dict[str, Any]]],
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    window: int,
    calibrated: bool,
) -> None:
    messages = [frame(str(n), minutes, fields) for n, (minutes, fields) in enumerate(frames)]
    _reset(database, after, calibrated)
    with writer(database_url, CODECS) as commit:
        commit(*messages)
    asyncio.run(_follow(database_url))
    live = stored(database)
    _reset(database, before, calibrated)
    with writer(database_url, CODECS) as commit:
        commit(*messages)
        asyncio.run(_follow(database_url))
        database.execute("UPDATE device_type SET mapping = %s WHERE id = 'says-json'", (Jsonb(after),))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "FRAMES_A_STEP", window)
            redecode(database_url)
    asyncio.run(_follow(database_url))
    assert stored(database) == live
    assert {state for (state,) in jobs(database, "state")} == {"done"}


def test_live_frames_come_in_meanwhile(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two steps frames come in, of earlier and of later times; all are read by the new map."""
    monkeypatch.setattr(module, "FRAMES_A_STEP", 3)
    register(database, {"field": "level", "metric": "water.level"})
    with writer(database_url, CODECS) as commit:
        commit(*(frame(str(n), n, {"level": float(n)}) for n in range(0, 60, 2)))
        number = place_order(database_url)
        database.execute(
            "UPDATE device_type SET mapping = %s",
            (Jsonb([{"field": "level", "metric": "water.level", "scale": 10.0}]),),
        )
        late = iter(range(1, 60, 2))

        def send(_: object) -> None:
            for n in (next(late, None), next(late, None)):
                if n is not None:
                    commit(frame(str(n), n, {"level": float(n)}))

        assert redecoder(database_url, number).run_waiting(send) == 1
    readings = stored(database)["readings"]
    assert len(readings) > 40
    assert all(row["time"] == at(row["value"] / 10) for row in readings)
    assert len({row["decoded_by"] for row in stored(database)["uplinks"]}) == 1
