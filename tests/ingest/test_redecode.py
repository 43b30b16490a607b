"""Jobs that decode stored frames again, while something is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from ingest import redecode
from ingest.decode_jobs import Span
from ingest.redecode import Redecoder
from ingest.repeat import repeat
from telemetry.store.migrate import migrate
from telemetry.store.pool import connect
from telemetry.store.writer import FENCE
from tests.ingest import redecoding
from tests.ingest.redecoding import stored
from tests.ingest.says_json import CODECS as CODECS_JSON
from tests.ingest.says_json import at, frame, register
from tests.ingest.store import EUI, adopt, keep_latest, registry, up, writer
from tests.wait import until

Database = psycopg.Connection[dict[str, Any]]
BAD, GOOD = "00000000000000b0", "0000000000000060"
CODECS = registry(bad=lambda: {"x": 1.0, "s": "a\x00"}, good=lambda: {"x": 2.0})


def redecoder(url: str) -> Redecoder:
    return Redecoder(lambda: connect(url, application="test"), writer="again", codecs=CODECS)


def ask(database: Database, eui: str, codec: str) -> None:
    adopt(database, eui, codec)
    database.execute(
        "INSERT INTO decode_job (device_id, requested_by) SELECT id, 'test' FROM device WHERE dev_eui = %s",
        (eui,),
    )


def states(database: Database) -> list[str]:
    return [row["state"] for row in database.execute("SELECT state FROM decode_job ORDER BY id").fetchall()]


def test_a_job_that_cannot_be_done_fails_and_the_next_goes_on(database: Database, database_url: str) -> None:
    with writer(database_url) as commit:
        commit(up("1", eui=BAD), up("2", eui=GOOD))
    ask(database, BAD, "bad")
    ask(database, GOOD, "good")
    database.execute("ALTER TABLE uplink ADD CONSTRAINT unlucky CHECK (decoded_by NOT LIKE 'bad@%')")
    assert redecoder(database_url).run_waiting() == 2
    assert states(database) == ["failed", "done"]
    row = database.execute("SELECT error FROM decode_job ORDER BY id LIMIT 1").fetchone()
    assert row is not None
    assert "unlucky" in row["error"]


def test_fields_that_cannot_be_stored_are_cleaned(database: Database, database_url: str) -> None:
    with writer(database_url) as commit:
        commit(up("1", eui=BAD))
    ask(database, BAD, "bad")
    redecoder(database_url).run_waiting()
    assert states(database) == ["done"]
    assert database.execute("SELECT fields FROM uplink").fetchone() == {"fields": {"x": 1.0, "s": "a"}}


@contextmanager
def _hanging_writer(url: str) -> Iterator[None]:
    with connect(url, application="hangs") as connection:
        connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (FENCE,))
        yield


def test_a_writer_that_hangs_holds_up_the_job_and_nobody_else(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redecode, "FENCE_SECONDS", 0.2)
    ask(database, GOOD, "good")
    with _hanging_writer(database_url), writer(database_url) as commit:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            redecoder(database_url).run_waiting()
        assert commit(up("1", eui=GOOD)).written.uplinks == 1
    assert states(database) == ["waiting"]
    redecoder(database_url).run_waiting()
    assert states(database) == ["done"]


async def test_a_database_that_is_migrated_later_is_waited_for(empty_database_url: str) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(repeat("redecode", redecoder(empty_database_url).run_waiting, 1.0, stop))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(task), 1)
    await asyncio.to_thread(migrate, empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True, row_factory=psycopg.rows.dict_row) as database:
        ask(database, GOOD, "good")
        await until(lambda: states(database) == ["done"])
    stop.set()
    await task


def test_a_job_that_is_stopped_goes_on_later(database: Database, database_url: str) -> None:
    with writer(database_url) as commit:
        commit(up("1", eui=GOOD))
    ask(database, GOOD, "good")
    stopped = redecoder(database_url)
    stopped.stop()
    assert stopped.run_waiting() == 0
    assert states(database) == ["waiting"]


def _level(**entry: Any) -> Jsonb:
    return Jsonb([{"field": "level", "metric": "water.level", **entry}])


def _retype(database: Database, **columns: Any) -> None:
    sets = ", ".join(f"{name} = %s" for name in columns)
    database.execute(f"UPDATE device_type SET {sets} WHERE id = 'says-json'", list(columns.values()))  # type: ignore[arg-type]


def _send(url: str, count: int, eui: str = EUI, **fields: Any) -> None:
    with writer(url, CODECS_JSON) as commit:
        # Half a second later than its reading, which is at a whole second.
        minutes = ((n, n + 0.5 / 60) for n in range(count))
        commit(*(frame(f"{eui}{n}", at, {"level": float(n), **fields}, eui=eui) for n, at in minutes))


def test_what_a_frame_said_before_is_kept(database: Database, database_url: str) -> None:
    register(database, {"field": "level", "metric": "water.level"})
    _send(database_url, 2)
    old = database.execute("SELECT decoded_by FROM uplink LIMIT 1").fetchone()
    _retype(database, mapping=_level(scale=10.0))
    number = redecoding.redecode(database_url)
    kept = database.execute("SELECT * FROM superseded ORDER BY time").fetchall()
    assert old is not None
    assert [(row["decoded_by"], len(row["readings"])) for row in kept] == [(old["decoded_by"], 1)]
    assert kept[0]["readings"][0][3:] == [1.0, None, 1], "0 × 10 is what it was; 1 was replaced"
    codec, _, version = old["decoded_by"].partition("/")
    assert codec == "json@1"
    row = database.execute(
        "SELECT mapping FROM device_type_map WHERE map_version = %s", (version,)
    ).fetchone()
    assert row == {"mapping": [{"field": "level", "metric": "water.level"}]}
    assert redecoding.jobs(database, "state", "frames", "changed", "readings") == [("done", 2, 1, 1)]
    assert kept[0]["job_id"] == database.execute("SELECT id FROM decode_job").fetchone()["id"]  # type: ignore[index]
    assert number == 1


def test_flags_of_readings_that_keep_their_value_stay(database: Database, database_url: str) -> None:
    """Somebody may have set them by hand."""
    register(database, {"field": "level", "metric": "water.level"})
    _send(database_url, 3)
    database.execute("UPDATE reading SET quality = 3 WHERE value < 2")
    _retype(database, mapping=_level(when={"ok": 1}))
    redecoding.redecode(database_url)
    assert database.execute("SELECT FROM reading").rowcount == 0
    _retype(database, mapping=_level())
    redecoding.redecode(database_url)
    database.execute("UPDATE reading SET quality = 3 WHERE value < 2")
    _retype(database, mapping=_level(absent=[2]))
    redecoding.redecode(database_url)
    rows = database.execute("SELECT value, quality FROM reading ORDER BY value").fetchall()
    assert [(row["value"], row["quality"]) for row in rows] == [(0.0, 3), (1.0, 3)]


def test_frames_with_the_present_stamp_are_left_alone(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(database, {"field": "level", "metric": "water.level", "offset": {"variable": "zero"}})
    database.execute("UPDATE device SET variables = '{\"zero\": 1}'")
    _send(database_url, 4)
    database.execute("UPDATE device SET variables = '{\"zero\": 2}'")
    redecoding.redecode(database_url)
    assert redecoding.jobs(database, "frames", "changed") == [(4, 0)]
    redecoding.redecode(database_url, every_frame=True)
    assert redecoding.jobs(database, "frames", "changed")[1] == (4, 4)
    assert [row["value"] for row in stored(database)["readings"]] == [2.0, 3.0, 4.0, 5.0]


def test_only_frames_of_the_span(database: Database, database_url: str) -> None:
    register(database, {"field": "level", "metric": "water.level"})
    _send(database_url, 6)
    _retype(database, mapping=_level(offset=100.0))
    redecoding.redecode(database_url, span=Span(at(2), at(4)))
    assert [row["value"] for row in stored(database)["readings"]] == [0.0, 1.0, 102.0, 103.0, 4.0, 5.0]
    assert redecoding.jobs(database, "expected", "frames") == [(2, 2)]


def test_a_change_on_the_way_begins_anew(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until no frame is left that was read otherwise."""
    monkeypatch.setattr(redecode, "FRAMES_A_STEP", 2)
    register(database, {"field": "level", "metric": "water.level"})
    _send(database_url, 6)
    _retype(database, mapping=_level(scale=10.0))
    number = redecoding.place_order(database_url)
    steps = 0

    def change(_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            _retype(database, mapping=_level(scale=100.0))

    redecoding.redecoder(database_url, number).run_waiting(change)
    assert [row["value"] for row in stored(database)["readings"]] == [n * 100.0 for n in range(6)]
    assert redecoding.jobs(database, "state", "frames") == [("done", 6)]


def test_a_frame_that_cannot_be_stored_costs_no_other(database: Database, database_url: str) -> None:
    register(database, {"field": "level", "metric": "water.level"})
    _send(database_url, 7)
    _retype(database, mapping=_level(scale=10.0))
    database.execute("ALTER TABLE reading ADD CONSTRAINT unlucky CHECK (value <> 30)")
    redecoding.redecode(database_url)
    assert [row["value"] for row in stored(database)["readings"]] == [0, 10, 20, 3, 40, 50, 60]
    ((state, untouched, error),) = redecoding.jobs(database, "state", "untouched", "error")
    assert (state, untouched) == ("failed", 1)
    assert "unlucky" in error


def test_a_type_that_cannot_be_read_takes_nothing_away(database: Database, database_url: str) -> None:
    register(database, {"field": "level", "metric": "water.level"})
    _send(database_url, 3)
    before = stored(database)
    _retype(database, codec="none-such")
    redecoding.redecode(database_url)
    assert stored(database) == before
    ((state, error),) = redecoding.jobs(database, "state", "error")
    assert state == "failed"
    assert "unknown codec 'none-such'" in error


def test_frames_of_a_retired_device_are_decoded_too(database: Database, database_url: str) -> None:
    register(database, {"field": "level", "metric": "water.level"})
    _send(database_url, 2)
    database.execute("UPDATE device SET status = 'retired'")
    _retype(database, mapping=_level(offset=1.0))
    redecoding.redecode(database_url)
    assert [row["value"] for row in stored(database)["readings"]] == [1.0, 2.0]


def test_two_at_once_do_no_frame_twice(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redecode, "FRAMES_A_STEP", 5)
    for n in range(4):
        register(database, {"field": "level", "metric": "water.level"}, eui=f"{n:016x}")
        _send(database_url, 40, eui=f"{n:016x}")
    _retype(database, mapping=_level(scale=2.0))
    numbers = [redecoding.place_order(database_url), redecoding.place_order(database_url)]
    workers = [redecoding.redecoder(database_url, number) for number in (*numbers, *numbers)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda worker: worker.run_waiting(), workers))
    values = sorted(row["value"] for row in stored(database)["readings"])
    assert values == sorted(n * 2.0 for n in range(40) for _ in range(4))
    assert sum(changed for (changed,) in redecoding.jobs(database, "changed")) == 4 * 39
    assert {state for (state,) in redecoding.jobs(database, "state")} == {"done"}


def test_of_a_redecoding_ingest_does_only_what_is_left_to_it(database: Database, database_url: str) -> None:
    register(database, {"field": "level", "metric": "water.level"})
    _send(database_url, 2)
    _retype(database, mapping=_level(offset=1.0))
    redecoding.place_order(database_url)
    ingest = redecoding.redecoder(database_url, None)
    assert ingest.run_waiting() == 0
    redecoding.place_order(database_url, detached=True)
    assert ingest.run_waiting() == 1
    assert states(database) == ["waiting", "done"]


def test_counts_of_the_lanes_stay_true(database: Database, database_url: str) -> None:
    """Who follows hears of what is new, what changed, and what is gone."""
    register(database, {"field": "level", "metric": "water.level"})
    _send(database_url, 4, other=7.0)
    for mapping in (
        _level(absent=[1, 2]),
        Jsonb([{"field": "other", "metric": "water.temperature"}]),
        Jsonb([]),
        _level(),
    ):
        _retype(database, mapping=mapping)
        redecoding.redecode(database_url)
        asyncio.run(keep_latest(database_url))
        row = database.execute(
            "SELECT sum(readings)::int AS told, (SELECT count(*) FROM reading) FROM lane"
        ).fetchone()
        assert row is not None
        assert row["told"] == row["count"]
    row = database.execute("SELECT readings FROM latest").fetchone()
    assert row is not None
    assert [value[1] for value in row["readings"].values()] == [3.0]


def test_what_a_window_took_away_is_told_by_a_frame_of_the_same_time(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two frames of one moment; the second told directly what now only the first one's record tells."""
    monkeypatch.setattr(redecode, "FRAMES_A_STEP", 1)
    direct = {"field": "level", "metric": "water.level"}
    logs = {
        "field": "level",
        "metric": "water.level",
        "records": {"list": "log", "time": "t", "clock": "iso"},
    }
    register(database, direct, logs)
    record = [{"t": at(4).isoformat(), "level": 1.0}]
    with writer(database_url, CODECS_JSON) as commit:
        commit(frame("a", 2, {"log": record}), frame("b", 2, {"x": 1}), frame("c", 4, {"level": 5.0}))
    assert [row["value"] for row in stored(database)["readings"]] == [5.0]
    _retype(database, mapping=Jsonb([logs]))
    redecoding.redecode(database_url)
    assert [row["value"] for row in stored(database)["readings"]] == [1.0]
    assert redecoding.jobs(database, "state", "frames", "untouched") == [("done", 3, 0)]


def test_a_writer_is_waited_for_when_all_begins_anew(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redecode, "FRAMES_A_STEP", 2)
    monkeypatch.setattr(redecode, "FENCE_SECONDS", 0.2)
    register(database, {"field": "level", "metric": "water.level"})
    _send(database_url, 6)
    number = redecoding.place_order(database_url)
    steps = 0
    with ExitStack() as stack:

        def change(_: object) -> None:
            nonlocal steps
            steps += 1
            if steps == 2:
                stack.enter_context(_hanging_writer(database_url))
                _retype(database, mapping=_level(scale=100.0))

        working = redecoding.redecoder(database_url, number)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            working.run_waiting(change)
    working.run_waiting()
    assert [row["value"] for row in stored(database)["readings"]] == [n * 100.0 for n in range(6)]


def test_adoptions_go_before_what_is_left_to_ingest(database: Database, database_url: str) -> None:
    register(database, {"field": "level", "metric": "water.level"})
    _send(database_url, 2)
    redecoding.place_order(database_url, detached=True)
    database.execute("INSERT INTO decode_job (device_id, requested_by) SELECT id, 'test' FROM device")
    ended: list[int] = []

    def told(step: redecode.Step) -> None:
        rows = database.execute("SELECT id FROM decode_job WHERE state = 'done'").fetchall()
        ended.extend(row["id"] for row in rows if row["id"] not in ended)

    redecoding.redecoder(database_url, None).run_waiting(told)
    assert ended == [2, 1]
