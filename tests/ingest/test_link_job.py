"""The link history in a real store: what the writer commits, the job finds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import link_job, link_store
from ingest.link_job import LinkJob
from ingest.pipeline import parse
from ingest.transaction import BatchWriter
from telemetry.clock import ManualClock
from telemetry.model import RawMessage
from telemetry.store.pool import Pool, connect
from tests.ingest.store import EUI, registry, up, writer
from tests.samples import samples
from tests.sessions import LOCKED_HERE
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
T = datetime(2026, 11, 21, 12, tzinfo=UTC)
OTHER = "aabbccddeeff0022"
_COLUMNS = "time, dev_eui, received, lost_on_air, lost_by_us, resets, rejoins"


def at(minutes: float) -> datetime:
    return T + timedelta(minutes=minutes)


def frame(f_cnt: int, minutes: float, *, key: str = "", **more: Any) -> RawMessage:
    """A frame of the session 01020304, heard by gateway g1."""
    body: dict[str, Any] = {"fCnt": f_cnt, "devAddr": "01020304", "rxInfo": [{"gatewayId": "g1"}], **more}
    eui = body.pop("eui", EUI)
    return up(f"{eui} {f_cnt} {minutes} {key}", eui=eui, time=at(minutes), at=at(200_000), **body)


def event(kind: str, minutes: float, **data: Any) -> RawMessage:
    body = {
        "deduplicationId": f"{kind}{minutes}",
        "time": at(minutes).isoformat(),
        "deviceInfo": {"devEui": EUI},
        **data,
    }
    return RawMessage(f"application/1/device/{EUI}/event/{kind}", json.dumps(body).encode(), at(200_000))


@pytest.fixture
def job(pool: Pool) -> LinkJob:
    return LinkJob(pool, ManualClock(at(60)))


async def follow(pool: Pool, job: LinkJob) -> int:
    async with pool.connection() as connection:
        return await job.follow(connection)


def store(url: str, *batches: Iterable[RawMessage]) -> None:
    with writer(url) as commit:
        for batch in batches:
            commit(*batch)


def rows(database: Database, eui: str = EUI) -> list[tuple[Any, ...]]:
    """(hour after T, received, on air, by us, resets, rejoins) of a device."""
    found = database.execute(
        "SELECT time, received, lost_on_air, lost_by_us, resets, rejoins FROM link"
        " WHERE device_id = (SELECT id FROM device WHERE dev_eui = %s) ORDER BY time",
        (eui,),
    ).fetchall()
    return [((row["time"] - T) // timedelta(hours=1), *list(row.values())[1:]) for row in found]


def gap(database: Database, began: float, ended: float) -> None:
    database.execute(
        "INSERT INTO ingest_gap (client_id, began_at, ended_at, why) VALUES ('c', %s, %s, 'service')",
        (at(began), at(ended)),
    )


CASES: dict[str, tuple[list[RawMessage], list[tuple[int, ...]]]] = {
    "nothing is lost": ([frame(n, 10 * n) for n in range(9)], [(0, 6, 0, 0, 0, 0), (1, 3, 0, 0, 0, 0)]),
    "three are lost": ([frame(0, 0), frame(4, 40)], [(0, 2, 3, 0, 0, 0)]),
    "a night is lost": (
        [frame(0, 50), frame(7, 190)],
        [(0, 1, 0, 0, 0, 0), (1, 0, 3, 0, 0, 0), (2, 0, 3, 0, 0, 0), (3, 1, 0, 0, 0, 0)],
    ),
    "the counter falls back": ([frame(50, 0), frame(0, 10), frame(1, 20)], [(0, 3, 0, 0, 1, 0)]),
    "another address": ([frame(50, 0), frame(3, 10, devAddr="0a0b0c0d")], [(0, 2, 0, 0, 0, 1)]),
    "a join before": ([frame(50, 0), event("join", 9), frame(0, 10)], [(0, 2, 0, 0, 0, 1)]),
    "a join just behind its first frame": (
        [frame(50, 0), frame(0, 59.95), event("join", 60.02), frame(1, 62)],
        [(0, 2, 0, 0, 0, 1), (1, 1, 0, 0, 0, 0)],
    ),
    "a join, no addresses": (
        [frame(5, 0, devAddr=None), event("join", 9), frame(6, 10, devAddr=None)],
        [(0, 2, 0, 0, 0, 1)],
    ),
    "16 bits": ([frame(65_535, 0), frame(0, 10)], [(0, 2, 0, 0, 0, 0)]),
    "retransmissions": (
        [frame(5, 58), frame(5, 59, key="2"), frame(5, 61, key="3"), frame(6, 70)],
        [(0, 1, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0)],
    ),
    "an implausible gap": ([frame(0, 0), frame(20_000, 1300)], [(0, 1, 0, 0, 0, 0), (21, 1, 0, 0, 1, 0)]),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_rule(name: str, database: Database, database_url: str, pool: Pool, job: LinkJob) -> None:
    messages, expected = CASES[name]
    store(database_url, messages)
    assert await follow(pool, job) == 1
    assert rows(database) == expected
    assert await follow(pool, job) == 0


async def test_gateways_are_known_by_the_hour_and_the_oldest_forgotten(
    database: Database, database_url: str, pool: Pool, job: LinkJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen() -> list[tuple[Any, ...]]:
        found = database.execute("SELECT gateway_id, first_seen, seen_at FROM gateway_seen ORDER BY 1")
        return [
            (row["gateway_id"], *((row[at] - T) // timedelta(hours=1) for at in ("first_seen", "seen_at")))
            for row in found.fetchall()
        ]

    store(database_url, [frame(0, 70), frame(1, 190)])
    await follow(pool, job)
    store(database_url, [frame(2, 5, eui=OTHER), frame(3, 130, rxInfo=[{"gatewayId": "g2"}])])
    await follow(pool, job)
    assert seen() == [("g1", 0, 3), ("g2", 2, 2)]
    monkeypatch.setattr(link_store, "GATEWAYS", 1)
    database.execute("INSERT INTO gateway (gateway_id) VALUES ('g2')")
    store(database_url, [frame(4, 250, rxInfo=[{"gatewayId": "g3"}])])
    await follow(pool, job)
    assert seen() == [("g2", 2, 2), ("g3", 4, 4)]


async def test_a_frame_without_a_counter_ends_what_can_be_told(
    database: Database, database_url: str, pool: Pool, job: LinkJob
) -> None:
    store(database_url, [frame(5, 0), frame(6, 10), frame(9, 20)])
    database.execute(
        "UPDATE uplink SET f_cnt = NULL WHERE f_cnt = 6"
    )  # ChirpStack always counts, others may not
    await follow(pool, job)
    assert rows(database) == [(0, 3, 0, 0, 0, 0)]


async def test_what_was_heard_and_told(
    database: Database, database_url: str, pool: Pool, job: LinkJob
) -> None:
    def heard(f_cnt: int, minutes: float, factor: int, **gateways: tuple[float, float]) -> RawMessage:
        rx = [{"gatewayId": g, "rssi": rssi, "snr": snr} for g, (rssi, snr) in gateways.items()]
        lora = {"modulation": {"lora": {"spreadingFactor": factor}}}
        return frame(f_cnt, minutes, rxInfo=rx, txInfo={"frequency": 868_100_000, **lora})

    status = {"externalPowerSource": False, "batteryLevelUnavailable": False}
    store(
        database_url,
        [
            heard(1, 5, 9, b=(-110.5, -3.5), a=(-97, 6)),
            heard(2, 15, 12, c=(-90, 2.25)),
            event("status", 5, margin=12, batteryLevel=80.5, **status),
            event("status", 15, margin=9, batteryLevel=79.25, **status),
            event("status", 25, margin=-4, batteryLevelUnavailable=True, batteryLevel=0.0),
        ],
    )
    await follow(pool, job)
    found = database.execute("SELECT * FROM link").fetchone()
    assert found is not None
    told = {k: found[k] for k in ("rssi", "snr", "sf_min", "sf_max", "gateways", "battery", "margin")}
    assert told == {
        "rssi": -90, "snr": 6, "sf_min": 9, "sf_max": 12, "gateways": ["a", "b", "c"],
        "battery": 79.25, "margin": -4,
    }  # fmt: skip


async def test_a_battery_told_with_the_frame(
    database: Database, database_url: str, pool: Pool, job: LinkJob
) -> None:
    store(database_url, [frame(1, 5), frame(2, 15), frame(3, 25), event("status", 20, batteryLevel=50.0)])
    for minutes, battery in ((5, 90.1), (15, 33.25), (25, None)):
        database.execute("UPDATE uplink SET battery = %s WHERE time = %s", (battery, at(minutes)))
    await follow(pool, job)
    assert database.execute("SELECT battery FROM link").fetchone() == {"battery": 50}
    database.execute("UPDATE uplink SET battery = 33.25 WHERE time = %s", (at(25),))
    store(database_url, [frame(4, 26)])
    await follow(pool, job)
    assert database.execute("SELECT battery FROM link").fetchone() == {"battery": 33.25}


async def test_the_things_stack_tells_the_battery_with_each_frame(
    database: Database, database_url: str, pool: Pool, job: LinkJob
) -> None:
    (sample,) = (s for s in samples("tts_v3") if s.name == "tts_v3/up")
    store(database_url, [RawMessage(sample.topic, sample.payload, at(200_000))])
    await follow(pool, job)
    row = database.execute("SELECT battery FROM link").fetchone()
    assert row == {"battery": pytest.approx(90.118576)}


async def test_a_late_frame_gives_back_what_was_lost(
    database: Database, database_url: str, pool: Pool, job: LinkJob
) -> None:
    store(database_url, [frame(0, 0), frame(4, 240)])
    await follow(pool, job)
    lost = [(hour, 0, 1, 0, 0, 0) for hour in (1, 2, 3)]
    assert rows(database) == [(0, 1, 0, 0, 0, 0), *lost, (4, 1, 0, 0, 0, 0)]
    store(database_url, [frame(2, 121)])
    await follow(pool, job)
    assert rows(database) == [(hour, hour in (0, 2, 4), hour in (1, 3), 0, 0, 0) for hour in range(5)]
    store(database_url, [frame(1, 60), frame(3, 175)])
    await follow(pool, job)
    assert rows(database) == [(0, 1, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0), (2, 2, 0, 0, 0, 0), (4, 1, 0, 0, 0, 0)]


async def test_an_outage_told_after_its_frames(
    database: Database, database_url: str, pool: Pool, job: LinkJob
) -> None:
    store(database_url, [frame(0, 50), frame(7, 190)])
    await follow(pool, job)
    assert rows(database)[1:3] == [(1, 0, 3, 0, 0, 0), (2, 0, 3, 0, 0, 0)]
    gap(database, 60, 100)
    assert await follow(pool, job) == 0
    assert rows(database)[1:3] == [(1, 0, 1, 2, 0, 0), (2, 0, 3, 0, 0, 0)]
    database.execute("UPDATE ingest_gap SET ended_at = %s", (at(160),))
    await follow(pool, job)
    assert rows(database)[1:3] == [(1, 0, 0, 3, 0, 0), (2, 0, 1, 2, 0, 0)]
    store(database_url, [frame(3, 111)])
    await follow(pool, LinkJob(pool, ManualClock(at(60))))
    assert rows(database)[1:3] == [(1, 1, 0, 2, 0, 0), (2, 0, 1, 2, 0, 0)]


def _snapshot(database: psycopg.Connection[Any]) -> list[Any]:
    return database.execute(
        f"SELECT {_COLUMNS}, rssi, sf_min, gateways, battery, margin FROM link"
        " JOIN device d ON d.id = device_id ORDER BY dev_eui, time"
    ).fetchall()


def _stream() -> list[RawMessage]:
    """Two days of two devices, with everything that may happen to them."""
    messages = []
    for n in range(60):
        if n % 7 and not 30 <= n < 38:
            messages.append(frame(n if n < 45 else n - 45, 37 * n))
        if n % 3 and n not in (20, 21):
            messages.append(
                frame(65_520 + n if n < 16 else n - 16, 41 * n, eui=OTHER, devAddr="aa" if n < 50 else "bb")
            )
    again = [frame(5, 37 * 5 + 1, key="again"), frame(40, 37 * 40 + 0.2, key="again")]
    swapped = [
        frame(101, 37 * 61, devAddr="cc"),
        frame(100, 37 * 61 + 0.5, devAddr="cc"),
        frame(102, 2300, devAddr="cc"),
        frame(40, 2400, devAddr="cc"),
    ]
    status = [event("status", 37 * n, margin=n, batteryLevel=90.0 - n) for n in (1, 17, 33)]
    joins = [event("join", 37 * n - 0.1) for n in (45, 50)]
    return [*messages, *again, *swapped, *status, *joins]


async def test_order_and_cuts_do_not_matter(database_url: str, database: Database, pool: Pool) -> None:
    """Shuffled, repeated, cut into batches of two writers, with passes of the job anywhere between."""
    stream = _stream()
    outages = [(37 * 31 + 3, 37 * 33), (700, 1000)]
    loop = asyncio.get_running_loop()
    writers = [
        BatchWriter(
            lambda: connect(database_url, application="test"),
            writer=name,
            codecs=registry(),
            keep_messages=False,
        )
        for name in ("one", "two")
    ]

    async def play(plan: list[tuple[int, list[RawMessage], bool]], told_at: int) -> list[Any]:
        database.execute("TRUNCATE uplink, event, latest, untimed, link, ingest_gap")
        job = LinkJob(pool, ManualClock(at(60)))
        for n, (number, batch, passes) in enumerate(plan):
            if n == told_at:
                for began, ended in outages:
                    gap(database, began, ended)
            writers[number].commit([(m, parse(m, 262_144)) for m in batch])
            if passes:
                await follow(pool, job)
        if told_at >= len(plan):
            for began, ended in outages:
                gap(database, began, ended)
        await follow(pool, job)
        return _snapshot(database)

    @st.composite
    def plans(draw: st.DrawFn) -> tuple[list[tuple[int, list[RawMessage], bool]], int]:
        order = list(draw(st.permutations([*stream, *draw(st.lists(st.sampled_from(stream), max_size=9))])))
        plan = []
        while order:
            size = draw(st.integers(1, 60))
            plan.append((draw(st.integers(0, 1)), order[:size], draw(st.booleans())))
            del order[:size]
        return plan, draw(st.integers(0, len(plan)))

    expected: list[Any] = []

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(plans())
    def check(drawn: tuple[list[tuple[int, list[RawMessage], bool]], int]) -> None:
        assert asyncio.run_coroutine_threadsafe(play(*drawn), loop).result() == expected

    try:
        expected += await play([(0, stream, False)], 0)
        assert len(expected) > 60
        for kind in ("lost_on_air", "lost_by_us", "resets", "rejoins"):
            assert any(row[kind] for row in expected), kind
        await asyncio.to_thread(check)
    finally:
        for one in writers:
            one.close()


async def test_an_hour_that_cannot_be_worked_out_stops_no_other(
    database: Database, database_url: str, pool: Pool, job: LinkJob
) -> None:
    store(database_url, [frame(1, 5), frame(1, 5, eui=OTHER), frame(1, 200, eui=OTHER)])
    database.execute("ALTER TABLE link ADD CONSTRAINT unlucky CHECK (resets = 0)")
    assert await follow(pool, job) == 1
    assert rows(database) == [(0, 1, 0, 0, 0, 0)]
    assert rows(database, OTHER) == []
    assert await follow(pool, job) == 0


async def test_a_pass_that_fails_is_done_again(
    database: Database, database_url: str, pool: Pool, job: LinkJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(database_url, [frame(1, 5)])

    async def cut(*_: Any) -> None:
        raise psycopg.OperationalError("server closed the connection")

    with monkeypatch.context() as patched:
        patched.setattr(link_store, "save", cut)
        with pytest.raises(psycopg.OperationalError):
            await follow(pool, job)
    assert rows(database) == []
    assert await follow(pool, job) == 1
    assert rows(database) == [(0, 1, 0, 0, 0, 0)]


async def test_one_process_at_a_time_and_another_takes_over(
    database: Database, database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_job, "PASS_SECONDS", 0.05)
    jobs = [LinkJob(pool, ManualClock(at(60))) for _ in range(2)]
    stops = [asyncio.Event(), asyncio.Event()]
    tasks = [asyncio.create_task(job.run(stop)) for job, stop in zip(jobs, stops, strict=True)]
    holds = (
        f"SELECT count(*) AS n FROM pg_locks WHERE {LOCKED_HERE}"
        " AND locktype = 'advisory' AND objid = %s AND granted"
    )

    def leaders() -> int:
        row = database.execute(holds, (link_job.LEADER,)).fetchone()
        return int(row["n"]) if row else 0

    store(database_url, [frame(1, 5)])
    await until(lambda: rows(database) == [(0, 1, 0, 0, 0, 0)])
    assert leaders() == 1
    for number, stop in enumerate(stops):
        store(database_url, [frame(2 + number, 6 + number)])
        await until(lambda wanted=2 + number: rows(database) == [(0, wanted, 0, 0, 0, 0)])  # type: ignore[misc]
        stop.set()
        await tasks[number]
    assert leaders() == 0
