"""A backup beside real ingest, restored, and ingest again: nothing is lost and nothing is there twice."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from quantrac.embedded import BrokerInfo
from tests.chaos.traffic import READINGS, frames, paced, register_devices
from tests.program import Program, run
from tests.traffic import publish
from tests.wait import until

from .backups import number

Frames = dict[tuple[str, int], int]


def stored(url: str) -> Frames:
    """How often each frame is stored; every one has its readings."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT d.dev_eui, u.f_cnt, count(DISTINCT u.id), count(r.*) FROM uplink u"
            " JOIN device d ON d.id = u.device_id LEFT JOIN reading r ON r.uplink_id = u.id GROUP BY 1, 2"
        ).fetchall()
    assert {readings / uplinks for _, _, uplinks, readings in rows} <= {READINGS}
    return {(eui, f_cnt): uplinks for eui, f_cnt, uplinks, _ in rows}


def counts(url: str, names: list[str]) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        found = {}
        for name in names:
            row = connection.execute(
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*name.split(".")))
            ).fetchone()
            assert row is not None
            found[name] = row[0]
    return found


def following(url: str) -> set[str]:
    """The followers that have seen all of every lane."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT f.name FROM follower f WHERE NOT EXISTS (SELECT FROM lane LEFT JOIN follower_cursor c"
            " ON c.follower = f.name AND c.lane = lane.id WHERE coalesce(c.seq, 0) < lane.seq)"
        ).fetchall()
    return {name for (name,) in rows}


class Traffic:
    """Uplinks in the background until `stop`; `sent` has them."""

    def __init__(self, url: str, rate: float) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url, rate))
        self._thread.start()

    def _run(self, url: str, rate: float) -> None:
        def noted() -> Iterator[tuple[str, bytes]]:
            for _, topic, payload in paced(frames(0, 100_000), rate):
                if self._enough.is_set():
                    return
                self.sent.append((topic, payload))
                yield topic, payload

        publish(url, noted())

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()


@pytest.mark.slow
async def test_a_backup_under_load_holds_all_that_was_stored_before_it_and_ingest_goes_on(
    broker: BrokerInfo, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    file, data = tmp_path / "sao lưu.backup", {"QUANTRAC_DATA_DIR": str(tmp_path)}
    env = {"QUANTRAC_MQTT_URL": broker.urls["ingest"], "QUANTRAC_MQTT_CLIENT_ID": "station", **data}
    with psycopg.connect(database_url, autocommit=True) as connection:
        register_devices(connection)
    ingest = Program("ingest", env={"QUANTRAC_DATABASE_URL": database_url, **env})
    await until(lambda: number(database_url, "SELECT count(*) FROM ingest_member WHERE connected"), 60)
    traffic = Traffic(broker.urls["network"], rate=150)
    try:
        await until(lambda: number(database_url, "SELECT count(*) FROM uplink") >= 300, 60)
        before = stored(database_url)
        made = await asyncio.to_thread(
            run, "backup", str(file), "--json", env={"QUANTRAC_DATABASE_URL": database_url, **data}
        )
        assert made.returncode == 0, made.stderr
        told = json.loads(made.stdout)
        assert stored(database_url).keys() > before.keys(), "ingest stood still"
    finally:
        traffic.stop()
        ingest.stop()

    back = {"QUANTRAC_DATABASE_URL": empty_database_url, **data}
    done = await asyncio.to_thread(run, "restore", str(file), "--json", env=back)
    assert done.returncode == 0, done.stderr
    after = stored(empty_database_url)
    assert set(after.values()) == {1}
    assert after.keys() >= before.keys(), "stored before the backup began, but not in it"
    tables = told["tables"]
    assert json.loads(done.stdout)["tables"] == tables
    assert tables["public.uplink"] == len(after) > len(before)
    seeded = ("admin_unit", "device_type", "device_type_map", "registry_version")
    kept = [name for name in tables if name.startswith("public.") and name[7:] not in seeded]
    assert counts(empty_database_url, kept) == {name: tables[name] for name in kept}
    assert number(empty_database_url, "SELECT count(*) FROM session") == 0
    assert number(empty_database_url, "SELECT (nextval('uplink_id') > max(id))::int FROM uplink"), (
        "ids would be given twice"
    )

    # Everything comes again, and more: the network server's own repetition.
    lane = "SELECT seq FROM lane WHERE writer = 'station'"
    seq = number(empty_database_url, lane)
    again = Program("ingest", env={**env, **back})
    alert = Program("alert", env={**env, **back})
    try:
        await until(
            lambda: number(
                empty_database_url,
                "SELECT count(*) FROM ingest_member WHERE connected AND seen_at > now() - interval '4 s'",
            ),
            60,
        )
        new = [(topic, payload) for _, topic, payload in frames(len(traffic.sent), 100)]
        await asyncio.to_thread(publish, broker.urls["network"], [*traffic.sent, *new])
        total = len(traffic.sent) + len(new)
        await until(lambda: number(empty_database_url, "SELECT count(*) FROM uplink") >= total, 60)
        await until(lambda: following(empty_database_url) >= {"alerting", "increments", "latest"}, 30)
    finally:
        again.stop()
        alert.stop()
    assert number(empty_database_url, lane) > seq
    final = stored(empty_database_url)
    assert len(final) == total
    assert set(final.values()) == {1}
