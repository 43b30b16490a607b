"""What one batch becomes: strange codecs, strange clocks, strange values."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from ingest import layout
from telemetry.model import UplinkFlag
from tests.ingest.store import EUI, NOW, adopt, registry, up, writer
from tests.kept import kept_messages

Database = psycopg.Connection[dict[str, Any]]


def _deep() -> dict[Any, Any]:
    value: Any = 1.0
    for _ in range(3000):
        value = [value]
    return {"x": 1.0, "deep": value}


FIELDS: dict[str, tuple[Any, Any]] = {
    "nul": (lambda: {"x": 1.0, "s\x00": "a\x00b"}, {"x": 1.0, "s": "ab"}),
    "surrogate": (lambda: {"x": 1.0, "s": "a\ud800"}, {"x": 1.0, "s": "a?"}),
    "nan": (lambda: {"x": 1.0, "n": float("nan")}, {"x": 1.0, "n": None}),
    "object": (lambda: {"x": 1.0, "o": object()}, None),
    "key": (lambda: {"x": 1.0, ("a", "b"): 1}, None),
    "deep": (_deep, None),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_that_cannot_be_stored_cost_neither_frame_nor_readings(
    name: str, database: Database, database_url: str
) -> None:
    says, kept = FIELDS[name]
    adopt(database, EUI, name)
    with writer(database_url, registry(**{name: says})) as commit:
        assert commit(up("1")).written == (1, 1, 0, 0)
    row = database.execute("SELECT id, fields, problem FROM uplink").fetchone()
    assert row is not None
    assert row["fields"] == kept
    assert (row["problem"] or "").startswith("fields not kept: ") == (kept is None)
    assert kept_messages(database).keys() == {row["id"]}


def _exits() -> dict[Any, Any]:
    raise SystemExit(3)


def test_a_codec_that_exits_costs_only_its_readings(database: Database, database_url: str) -> None:
    adopt(database, EUI, "exits")
    with writer(database_url, registry(exits=_exits)) as commit:
        assert commit(up("1")).written == (1, 0, 0, 0)
    assert database.execute("SELECT problem FROM uplink").fetchone() == {
        "problem": "codec failed: SystemExit: 3"
    }


def test_names_with_a_nul_cost_nothing(database: Database, database_url: str) -> None:
    with writer(database_url) as commit:
        assert commit(up("1", devAddr="00\x0012", rxInfo=[{"gatewayId": "g\x00w"}])).written == (1, 0, 0, 0)
    row = database.execute("SELECT dev_addr, gateways FROM uplink").fetchone()
    assert row is not None
    assert row["dev_addr"] == "0012"
    assert row["gateways"][0]["id"] == "gw"


def test_an_error_of_any_kind_costs_only_its_own_message(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = layout.decode

    def stumbles(uplink: Any, *rest: Any) -> Any:
        if uplink.f_cnt == 13:
            raise RecursionError("too deep")
        return decode(uplink, *rest)

    monkeypatch.setattr(layout, "decode", stumbles)
    with writer(database_url) as commit:
        assert commit(*(up(str(n), fCnt=n) for n in range(20))).written == (19, 0, 0, 1)
    row = database.execute("SELECT reason, detail, dev_eui FROM reject").fetchone()
    assert row == {"reason": "not_storable", "detail": "RecursionError: too deep", "dev_eui": EUI}


@pytest.mark.parametrize("careful", [False, True])
def test_radio_values_nobody_could_measure_are_left_out(
    careful: bool, database: Database, database_url: str
) -> None:
    def frame(key: str, rssi: float, snr: float, factor: int) -> Any:
        return up(
            key,
            rxInfo=[{"gatewayId": "g", "rssi": rssi, "snr": snr}],
            txInfo={"frequency": 868100000, "modulation": {"lora": {"spreadingFactor": factor}}},
        )

    frames = [frame("1", 1e300, 5, 70_000), frame("2", -71.3, 1e-300, 7), frame("3", -71, -1e4, 0)]
    with writer(database_url) as commit:
        if careful:
            commit(up("0"))
            frames.append(up("0"))
        assert commit(*frames).written == (3, 0, 0, 0)
    rows = database.execute(
        "SELECT rssi, snr, spreading_factor FROM uplink WHERE frequency IS NOT NULL ORDER BY id"
    ).fetchall()
    assert [tuple(row.values()) for row in rows] == [
        (None, None, None), (pytest.approx(-71.3), 0, 7), (-71, None, None),
    ]  # fmt: skip


def _stored(database: Database) -> list[tuple[Any, int]]:
    rows = database.execute("SELECT time, flags FROM uplink ORDER BY id").fetchall()
    return [(row["time"], row["flags"]) for row in rows]


@pytest.mark.parametrize("ns", [False, True])
def test_a_frame_stored_while_our_clock_was_behind_keeps_its_time(
    ns: bool, database: Database, database_url: str
) -> None:
    more = {"rxInfo": [{"gatewayId": "g", "nsTime": NOW.isoformat()}]} if ns else {}
    behind = NOW - timedelta(days=3)
    with writer(database_url) as commit:
        commit(up("1", at=behind, **more))
        assert commit(up("1", **more)).duplicates == 1
    assert _stored(database) == [(behind, UplinkFlag.ASSIGNED_TIME)]


@pytest.mark.parametrize("ns", [False, True])
def test_a_frame_that_comes_again_after_our_clock_stepped_back_is_known(
    ns: bool, database: Database, database_url: str
) -> None:
    # With the network server's time the device's own is two hours ahead of it, so that one is taken.
    ahead = timedelta(hours=2) if ns else timedelta(0)
    more = {"rxInfo": [{"gatewayId": "g", "nsTime": NOW.isoformat()}]} if ns else {}
    with writer(database_url) as commit:
        commit(up("1", time=NOW + ahead, **more))
        again = up("1", time=NOW + ahead, at=NOW - timedelta(days=2), **more)
        assert commit(again, up("2", at=NOW - timedelta(days=2))).written == (1, 0, 0, 0)
    assert _stored(database) == [
        (NOW, UplinkFlag.NETWORK_TIME if ns else 0), (NOW - timedelta(days=2), UplinkFlag.ASSIGNED_TIME),
    ]  # fmt: skip


@pytest.mark.parametrize("at_once", [False, True])
def test_one_key_with_several_times_gives_the_same_rows_however_batched(
    at_once: bool, database: Database, database_url: str
) -> None:
    second, third = NOW + timedelta(seconds=1), NOW + timedelta(seconds=2)
    arrival = NOW + timedelta(seconds=10)
    times = [NOW, second, NOW, NOW + timedelta(days=1), third, second]
    frames = [up("1", time=time, at=arrival) for time in times]
    with writer(database_url) as commit:
        for batch in [frames] if at_once else [[frame] for frame in frames]:
            commit(*batch)
    # The fourth is assigned a time, and from then on that is the key's.
    assert _stored(database) == [(NOW, 0), (second, 0), (arrival, UplinkFlag.ASSIGNED_TIME)]


def test_only_a_plausible_network_time_is_stored(database: Database, database_url: str) -> None:
    times = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", (NOW + timedelta(hours=1)).isoformat()]
    with writer(database_url) as commit:
        commit(*(up(t, rxInfo=[{"gatewayId": "g", "nsTime": t}]) for t in times))
    stored = [row["ns_time"] for row in database.execute("SELECT ns_time FROM uplink ORDER BY id").fetchall()]
    assert stored == [None, None, NOW + timedelta(hours=1)]
