"""Jobs that decode stored frames again, while something is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from ingest import redecode
from ingest.redecode import Redecoder
from ingest.repeat import repeat
from telemetry.store.migrate import migrate
from telemetry.store.pool import connect
from telemetry.store.writer import FENCE
from tests.ingest.store import adopt, registry, up, writer
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
