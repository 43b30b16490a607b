"""`quantrac purge simulated`: what a simulation brought goes, what is real stays as if it had not been."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from alerting.engine import Engine
from decoders.registry import Registry
from ingest.link_job import LinkJob
from quantrac.demo import register
from simulators.scenario import load_scenario
from telemetry.clock import SystemClock
from telemetry.errors import UsageError
from telemetry.model import RawMessage
from telemetry.settings import StoreSettings
from telemetry.store import latest
from telemetry.store import purge as store_purge
from telemetry.store.edition import Edition, detect
from telemetry.store.messages import unpack
from telemetry.store.migrate import migrate
from telemetry.store.policies import set_layouts
from telemetry.store.pool import async_pool, connect
from telemetry.store.rollups import refresh
from tests.ingest.store import up, writer
from tests.program import run
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
T = (datetime.now(UTC) - timedelta(days=20)).replace(hour=3, minute=0, second=0, microsecond=0)
REAL, NEIGHBOUR = "aabbccddeeff0011", "aabbccddeeff0012"
SIMULATED, UNREGISTERED = "0251545200000001", "0251545200000002"
MARK = {"tags": {"simulated": "true"}}
LEVELS = {"water.level": [{"level": 1, "label": "BĐ1", "value": 5.0}]}
RULE = {"id": "r", "name": {"vi": "M", "en": "L"}, "metric": "water.level", "levels": "station",
        "max_age": "100d"}  # fmt: skip
# Numbers that any row takes anew, and times at which something was written.
OWN = {
    *("id", "first_id", "uplink_id", "alert_id", "job_id", "message_id", "written", "redecoding_id"),
    *(
        "added_at",
        "updated_at",
        "created_at",
        "known_at",
        "requested_at",
        "replaced_at",
        "next_at",
        "messages",
        "body",
    ),
}
NOT_DATA = (
    *(
        "message_block",
        "lane",
        "lane_batch",
        "follower",
        "follower_cursor",
        "registry_version",
        "audit",
        "alembic_version",
    ),
)


def message(
    eui: str, minutes: float, value: float, *, marked: bool = False, gateway: str = "g1"
) -> RawMessage:
    """A frame; the test's codec takes the value from the payload's length."""
    at = T + timedelta(minutes=minutes)
    return up(
        f"{eui}{minutes}{marked}", eui=eui, time=at, at=at, fCnt=1000 + round(minutes), devAddr="01020304",
        deviceInfo={"devEui": eui, **(MARK if marked else {})}, rxInfo=[{"gatewayId": gateway}],
        data="AAAA" * round(value),
    )  # fmt: skip


def joined(eui: str, minutes: float, *, marked: bool = False) -> RawMessage:
    at = T + timedelta(minutes=minutes)
    body = {"deduplicationId": f"j{eui}{minutes}{marked}", "time": at.isoformat(), "devAddr": "01020304",
            "deviceInfo": {"devEui": eui, **(MARK if marked else {})}}  # fmt: skip
    return RawMessage(f"application/1/device/{eui}/event/join", json.dumps(body).encode(), at)


def broken(eui: str) -> RawMessage:
    return RawMessage(f"application/1/device/{eui}/event/up", b"{", T)


class Length:
    """Codec: metres are a third of the payload's length."""

    id, version = "length", "1"

    def decode(self, f_port: int, payload: bytes) -> dict[Any, Any]:
        return {"x": len(payload) / 3}

    def encode(self, fields: Any) -> tuple[int, bytes]:
        raise NotImplementedError


def real_traffic() -> list[RawMessage]:
    frames = [message(REAL, 10 * n, 6 if 20 < n < 40 else 2) for n in range(60)]
    return [*frames, message(NEIGHBOUR, 5, 3, gateway="g2"), joined(REAL, 1), broken(REAL)]


def simulated_traffic() -> list[RawMessage]:
    """Of a registered device, of one that nobody knows, and what claims to be a real one."""
    frames = [
        message(SIMULATED, 7 * n, 7 if n % 30 > 20 else 2, marked=True, gateway="g1") for n in range(150)
    ]
    unknown = [message(UNREGISTERED, -500 + 9 * n, 4, marked=True, gateway="g3") for n in range(60)]
    claimed = [message(REAL, 1000 + 400 * n, 9, marked=True) for n in range(2)]
    return [*frames, *unknown, *claimed, joined(SIMULATED, 1, marked=True), joined(REAL, 900, marked=True),
            broken(SIMULATED)]  # fmt: skip


def stock(database: Database, *, simulated: bool) -> None:
    """Master data, a rule, and a subscriber."""
    database.execute(
        "INSERT INTO device_type (id, vendor, model, codec, expected_interval, mapping)"
        " VALUES ('length', 'v', 'm', 'length', 60, %s)",
        (Jsonb([{"field": "x", "metric": "water.level"}]),),
    )
    station = """
        INSERT INTO station (code, name, latitude, longitude, thresholds, simulated)
        VALUES (%s, 'Bờ', 11, 107, %s, %s)"""
    device = """
        INSERT INTO device (dev_eui, status, device_type, station_id, simulated)
        SELECT %s, 'active', 'length', id, %s FROM station WHERE code = %s"""
    database.execute(station, ("left", Jsonb(LEVELS), False))
    database.execute(station, ("right", Jsonb(LEVELS), True))
    database.execute(device, (REAL, False, "left"))
    database.execute(device, (NEIGHBOUR, False, "right"))  # a real one where the mark says simulated
    if simulated:
        database.execute(station, ("nowhere", Jsonb(LEVELS), True))
        database.execute(device, (SIMULATED, True, "nowhere"))
    database.execute("INSERT INTO rule (id, definition) VALUES ('r', %s)", (Jsonb(RULE),))
    database.execute("INSERT INTO endpoint (name, url, secret) VALUES ('e', 'http://127.0.0.1:9/', 's')")
    for insert in (
        "decode_job (device_id, requested_by, state) SELECT id, 't', 'done' FROM device",
        "calibration (device_id, metric_id, valid_from, definition)"
        """ SELECT d.id, m.id, '2020-01-01', '{"gain": 1, "offset": 0}' FROM device d, metric m"""
        " WHERE m.key = 'water.level'",
        "quality_override (device_id, metric_id, valid_from, valid_to, quality, reason, created_by)"
        " SELECT d.id, m.id, '2020-01-01', '2020-01-02', 2, 'why', 'who' FROM device d, metric m"
        " WHERE m.key = 'water.level'",
    ):
        database.execute(f"INSERT INTO {insert}")  # type: ignore[arg-type]


def decoded_again(database: Database) -> None:
    """A frame of the simulated device, by an order that was for it alone."""
    database.execute("INSERT INTO redecoding (since, requested_by) VALUES (now(), 't')")
    database.execute(
        "UPDATE decode_job SET redecoding_id = 1 FROM device d WHERE d.id = device_id AND d.simulated"
    )
    frame = "FROM uplink u JOIN device d ON d.id = u.device_id WHERE d.dev_eui = %s LIMIT 1"
    for insert in (
        f"superseded (time, uplink_id, job_id, readings) SELECT u.time, u.id, 1, '[]' {frame}",
        f"logged_span (uplink_id, device_id, time, oldest) SELECT u.id, d.id, u.time, u.time {frame}",
        f"untimed (dedup_key, time) SELECT u.dedup_key, u.time {frame}",
    ):
        database.execute(f"INSERT INTO {insert}", (SIMULATED,))  # type: ignore[arg-type]


async def play(url: str, batches: Sequence[Sequence[RawMessage]]) -> None:
    """Through ingest's one write path, and what follows it."""
    with writer(url, Registry({"length": Length()}, ())) as commit:
        for batch in batches:
            commit(*batch)
    await follow(url)


async def follow(url: str) -> None:
    async with async_pool(StoreSettings(database_url=url), application="test") as pool:
        engine = Engine(pool)
        while await engine.step():
            pass
        async with pool.connection() as connection:
            while await latest.step(connection):
                pass
            await LinkJob(pool, SystemClock()).follow(connection)


def pack(url: str) -> bool:
    """On TimescaleDB Community: rollups filled, readings and rollups in the columnstore."""
    with connect(url, application="test", autocommit=True) as connection:
        if detect(connection) is not Edition.COMMUNITY:
            return False
        refresh(connection, None, None)
        with connection.cursor() as cursor:
            list(set_layouts(cursor))
        for relation in ("reading", "reading_by_hour"):
            connection.execute("SELECT compress_chunk(c) FROM show_chunks(%s::regclass) c", (relation,))
        return True


def dump(database: Database) -> dict[str, list[Any]]:
    """Every table and rollup by natural keys, without what is each row's own."""
    names = database.execute(
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema()"
        " AND (table_type = 'BASE TABLE' OR table_name IN ('reading_1h', 'reading_1d'))"
    ).fetchall()
    euis = {
        row["id"]: row["dev_eui"] for row in database.execute("SELECT id, dev_eui FROM device").fetchall()
    }
    codes = {row["id"]: row["code"] for row in database.execute("SELECT id, code FROM station").fetchall()}
    found = {}
    for table in sorted({row["name"] for row in names} - {*NOT_DATA}):
        rows = database.execute(f"SELECT to_jsonb(t) AS row FROM {table} t").fetchall()  # type: ignore[arg-type]
        told = []
        for row in (row["row"] for row in rows):
            row |= {"device_id": euis.get(row.get("device_id"), row.get("device_id"))}
            row |= {"station_id": codes.get(row.get("station_id"), row.get("station_id"))}
            told.append(json.dumps({k: v for k, v in row.items() if k not in OWN}, sort_keys=True))
        found[table] = sorted(told)
    blocks = database.execute("SELECT messages FROM message_block").fetchall()
    found["messages"] = sorted(m.hex() for row in blocks for m in unpack(row["messages"]).values())
    return found


@pytest.fixture
async def never(empty_database_url: str) -> AsyncIterator[Database]:
    """A database that never had simulated data."""
    migrate(empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True, row_factory=dict_row) as database:
        stock(database, simulated=False)
        await play(empty_database_url, [real_traffic()])
        yield database


def purge(url: str, folder: Path, *options: str) -> Any:
    env = {"QUANTRAC_DATABASE_URL": url, "QUANTRAC_DATA_DIR": str(folder / "data")}
    return run("purge", "simulated", *options, env=env, cwd=folder)


async def test_what_is_real_is_as_if_there_had_been_no_simulation(
    database: Database, database_url: str, never: Database, tmp_path: Path
) -> None:
    stock(database, simulated=True)
    mixed = [
        m for pair in zip(simulated_traffic(), [*real_traffic(), *[None] * 200], strict=False) for m in pair
    ]
    messages = [m for m in mixed if m is not None]
    await play(database_url, [messages[:100], messages[100:]])
    decoded_again(database)
    pack(database_url)
    before = dump(database)
    assert len(before["alert"]) > len(dump(never)["alert"]) == 1
    assert any(SIMULATED in row for row in before["reading_1h"])

    planned = purge(database_url, tmp_path)
    assert "--yes removes" in planned.stdout, planned.stderr
    assert dump(database) == before, "a dry run changes nothing"
    done = purge(database_url, tmp_path, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    removed = json.loads(done.stdout)["removed"]
    assert (removed["device"], removed["station"], removed["uplink"]) == (2, 1, 212)
    assert removed["gateway_seen"] == 1
    assert min(removed[name] for name in ("reading", "alert", "transition", "message", "delivery")) > 1
    await follow(database_url)

    after, wanted = dump(database), dump(never)
    assert {table for table in wanted if after[table] != wanted[table]} == set()
    with database.cursor() as cursor:
        audited = cursor.execute("SELECT action, detail FROM audit ORDER BY id").fetchall()
    assert [row["action"] for row in audited] == ["purge.begun", "purge.ended"]
    assert audited[1]["detail"]["uplink"] == 212
    assert "nothing is simulated" in purge(database_url, tmp_path).stdout


async def test_a_device_that_was_simulated_keeps_what_is_real(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """Its mark was taken away, and its real frames go on: what the marked ones gave goes."""
    stock(database, simulated=True)
    simulated = [message(SIMULATED, n, 7, marked=True) for n in range(5)]
    await play(database_url, [simulated])
    database.execute("UPDATE device SET simulated = false WHERE dev_eui = %s", (SIMULATED,))
    await play(database_url, [[message(SIMULATED, n, 2) for n in (-60, -50)]])
    assert len(dump(database)["reading"]) == 7
    done = purge(database_url, tmp_path, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    removed = json.loads(done.stdout)["removed"]
    assert (removed["uplink"], removed["reading"], removed["alert"]) == (5, 5, 1)
    await follow(database_url)
    values = database.execute("SELECT DISTINCT value FROM reading").fetchall()
    assert values == [{"value": 2}]
    row = database.execute("SELECT seen_at, newest, readings FROM latest").fetchone()
    assert row is not None
    assert row["seen_at"] == row["newest"] == T - timedelta(minutes=50)
    assert [reading[1] for reading in row["readings"].values()] == [2]
    heard = database.execute("SELECT sum(received) AS frames FROM link").fetchone()
    assert heard == {"frames": 2}
    assert dump(database)["alert"] == []


async def test_a_simulator_that_runs_is_to_be_stopped_first(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    await play(
        database_url,
        [[up("k", eui=UNREGISTERED, time=now, at=now, deviceInfo={"devEui": UNREGISTERED, **MARK})]],
    )
    refused = purge(database_url, tmp_path, "--yes")
    assert refused.returncode == 1
    assert "stop its simulator" in refused.stderr
    assert len(dump(database)["uplink"]) == 1


@pytest.mark.parametrize("uplinks", [0, 32_000, 2_147_483_000], ids=["first", "32,000th", "2,147,483,000th"])
async def test_ingest_goes_on_between_its_transactions(
    database: Database, database_url: str, uplinks: int
) -> None:
    """Real frames are stored meanwhile; a simulated device that is heard stays whole for the next purge."""
    if uplinks:
        database.execute("SELECT setval('uplink_id', %s)", (uplinks,))
    stock(database, simulated=True)
    await play(database_url, [simulated_traffic()])
    last: list[int] = []
    with (
        writer(database_url, Registry({"length": Length()}, ())) as commit,
        connect(database_url, application="test", autocommit=True) as connection,
    ):
        steps = 0
        for part in store_purge.purge(connection):
            commit(message(REAL, steps, 3))
            if part["reject"]:
                commit(message(UNREGISTERED, 5000, 4, marked=True))
            last.append(store_purge.devices(connection))
            steps += 1
        assert last[-1] == 1, last
        values = database.execute("SELECT value FROM reading").fetchall()
        assert values == [{"value": 3}] * steps
        assert sum(part["device"] for part in store_purge.purge(connection)) == 1
    assert not [row for row in dump(database)["uplink"] if UNREGISTERED in row]
    assert len(dump(database)["uplink"]) == steps


async def test_a_job_at_the_same_rows_only_costs_another_try(database: Database, database_url: str) -> None:
    """Who waits crosswise longest is broken off: the purge, unless this machine is busy for a second."""
    database.execute("INSERT INTO device (dev_eui, simulated) VALUES (%s, true)", (SIMULATED,))
    database.execute(
        "INSERT INTO reading SELECT %s::timestamptz + n * interval '1 s', n, 1, 1, 1, 0, 1"
        " FROM generate_series(1, 3) n",
        (T,),
    )
    doubt = "UPDATE reading SET quality = 3 WHERE value = %s"
    waits = "SELECT FROM pg_stat_activity WHERE application_name = 'purging' AND wait_event_type = 'Lock'"

    def purging() -> int:
        with connect(database_url, application="purging", autocommit=True) as connection:
            return sum(part["reading"] for part in store_purge.purge(connection))

    with suppress(psycopg.errors.DeadlockDetected), connect(database_url, application="job") as job:
        job.execute(doubt, (2,))  # whichever of the others the purge holds by now, the job wants both
        gone = asyncio.get_running_loop().run_in_executor(None, purging)
        await until(lambda: database.execute(waits).rowcount)
        for value in (1, 3):
            await asyncio.to_thread(job.execute, doubt, (value,))
    assert await gone == 3


def test_no_scenario_takes_a_real_station(database: Database, database_url: str) -> None:
    wanted = load_scenario("calm-day").registrations()
    database.execute(
        "INSERT INTO station (code, name, latitude, longitude) VALUES (%s, 'thật', 11, 107)",
        (wanted.stations[0].code,),
    )
    with pytest.raises(UsageError, match=f"station {wanted.stations[0].code}: registered here"):
        register(database_url, wanted, [])
    assert dump(database)["device"] == []
