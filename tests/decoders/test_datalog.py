"""Datalogs: records of the past become readings of the past, or are a problem of their own."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.datalog import AHEAD, OLDEST, Datalog, Logged, compile_datalog, read_time
from decoders.device_types import DeviceType, parse_device_type
from telemetry.catalogue import CATALOGUE
from telemetry.errors import UsageError

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


def _type(*entries: dict[str, Any]) -> DeviceType:
    return parse_device_type(
        {
            "id": "t",
            "vendor": "v",
            "model": "m",
            "codec": "c",
            "expected_interval": 600,
            "map": list(entries),
        },
        CATALOGUE,
    )


def _entry(
    field: str = "t", metric: str = "air.temperature", clock: str = "s", **more: Any
) -> dict[str, Any]:
    return {"field": field, "metric": metric, "records": {"list": "log", "time": "at", "clock": clock}} | more


def _read(log: Any, *entries: dict[str, Any], **variables: float) -> Datalog:
    read = compile_datalog(_type(*(entries or (_entry(),))))
    assert read is not None
    return read({"log": log, "t": 99}, NOW, variables)


def test_records_become_readings_at_their_times() -> None:
    log = [{"at": EPOCH - 1200, "t": 20, "h": 61}, {"at": EPOCH - 600, "t": "21.5", "h": None}]
    found = _read(log, _entry(), _entry("h", "air.humidity", channel=2))
    assert found == Datalog(
        [
            Logged(NOW - timedelta(minutes=20), "air.temperature", 0, 20),
            Logged(NOW - timedelta(minutes=20), "air.humidity", 2, 61),
            Logged(NOW - timedelta(minutes=10), "air.temperature", 0, 21.5),
        ],
        [],
    )


def test_the_map_is_the_one_of_fields() -> None:
    log = [{"at": EPOCH, "p": {"mm": 250}, "ok": True}, {"at": EPOCH - 60, "p": {"mm": 90}, "ok": False}]
    entry = _entry("p.mm", "water.level", scale=0.001, offset={"variable": "datum_m"}, when={"ok": True})
    assert _read(log, entry, datum_m=12.0).readings == [Logged(NOW, "water.level", 0, 12.25)]
    assert _read(log, entry) == Datalog([], [])


def test_lists_inside_objects_and_two_lists_at_once() -> None:
    read = compile_datalog(
        _type(
            {"field": "v", "metric": "distance", "records": {"list": "a.log", "time": "at"}},
            {"field": "w", "metric": "distance", "records": {"list": "b", "time": "when.ms", "clock": "ms"}},
        )
    )
    assert read is not None
    fields: dict[str, Any] = {
        "a": {"log": [{"at": EPOCH, "v": 1}]},
        "b": [{"when": {"ms": EPOCH * 1000}, "w": 2}, {"when": {"ms": EPOCH * 1000 - 500}, "w": 3}],
    }
    assert read(fields, NOW, {}).readings == [
        Logged(NOW, "distance", 0, 1),
        Logged(NOW - timedelta(milliseconds=500), "distance", 0, 3),
    ]


def test_a_type_without_datalogs_has_no_reader() -> None:
    assert compile_datalog(_type({"field": "t", "metric": "air.temperature"})) is None


@pytest.mark.parametrize("log", [None, []])
def test_no_log_is_no_fault(log: Any) -> None:
    assert _read(log) == Datalog([], [])


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (3, "log.1: no record"),
        ({"t": 20}, "log.1.at: a record without its time"),
        ({"at": "soon", "t": 20}, "log.1.at: not a time: 'soon'"),
        ({"at": True, "t": 20}, "log.1.at: not a time: True"),
        ({"at": float("nan"), "t": 20}, "log.1.at: not a time: nan"),
        ({"at": -5, "t": 20}, "log.1.at: not a time: -5"),
        ({"at": [1], "t": 20}, "log.1.at: not a time"),
        ({"at": 10**15, "t": 20}, "log.1.at: not a time: 1000000000000000"),
        ({"at": 77, "t": 20}, "log.1.at: 1970-01-01 is before 2000; the device's clock was not set"),
        (
            {"at": EPOCH + 301, "t": 20},
            "log.1.at: 2026-11-22T08:05:01Z is later than the uplink that carries it",
        ),
        ({"at": EPOCH, "t": "?"}, "log.1.t: not a number: '?'"),
    ],
)
def test_a_faulty_record_costs_itself_only(record: Any, problem: str) -> None:
    good = [{"at": EPOCH - 60, "t": 1}, {"at": EPOCH - 30, "t": 3}]
    found = _read([good[0], record, good[1]])
    assert [reading.value for reading in found.readings] == [1, 3]
    assert found.problems == [problem]


def test_what_is_no_list_is_a_problem() -> None:
    assert _read({"at": EPOCH, "t": 1}) == Datalog([], ["log: no list of records"])


def test_of_two_records_of_one_time_the_first_holds() -> None:
    log = [{"at": EPOCH, "t": 1}, {"at": EPOCH, "t": 2}]
    assert [reading.value for reading in _read(log).readings] == [1]


def test_the_edges_of_what_is_plausible() -> None:
    log = [{"at": EPOCH + 300, "t": 1}, {"at": int(OLDEST.timestamp()), "t": 2}]
    assert [reading.value for reading in _read(log).readings] == [1, 2]


@pytest.mark.parametrize(
    ("raw", "clock", "expected"),
    [
        (EPOCH, "s", NOW),
        (float(EPOCH), "s", NOW),
        (f"{EPOCH}.25", "s", NOW + timedelta(milliseconds=250)),
        (EPOCH * 1000, "ms", NOW),
        ("2026-11-22T15:00:00+07:00", "iso", NOW),
        ("2026-11-22T08:00:00Z", "iso+07:00", NOW),
        ("2026-11-22 15:00:00", "iso+07:00", NOW),
        ("2026-11-22T15:00:00", "iso", None),
        ("22/11/2026 15:00", "iso+07:00", None),
        (EPOCH, "iso", None),
        ("", "s", None),
        ("0001-01-01T00:00:00+07:00", "iso", None),
        (None, "s", None),
    ],
)
def test_times(raw: Any, clock: str, expected: datetime | None) -> None:
    assert read_time(raw, clock) == expected


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ({"list": "log"}, "map[0].records.time: is missing"),
        (
            {"list": "log", "time": "at", "clock": "min"},
            "map[0].records.clock: s, ms, iso or iso+07:00 is needed",
        ),
        (
            {"list": "log", "time": "at", "clok": "s"},
            "map[0].records.clok: unknown key (did you mean 'clock'?)",
        ),
        ({"list": "log", "time": "at", "clock": "iso+7"}, "map[0].records.clock: "),
        ({"list": "log", "time": "at", "clock": "iso+19:00"}, "map[0].records.clock: "),
        ("log", "map[0].records: keys and values are needed, got 'log'"),
    ],
)
def test_what_is_refused(records: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        _type(_entry() | {"records": records})
    assert message in str(raised.value)


def test_the_present_and_the_log_may_give_one_metric() -> None:
    type_ = _type({"field": "t", "metric": "air.temperature"}, _entry())
    assert parse_device_type(type_.to_dict(), CATALOGUE) == type_
    with pytest.raises(UsageError, match="is given by map"):
        _type(_entry(), _entry("u"))


_TIMES = st.integers() | st.floats() | st.text("0123456789-+T:Z. ", max_size=26) | st.none() | st.booleans()


@given(
    st.lists(st.fixed_dictionaries({"at": _TIMES, "t": st.integers(0, 50)}), max_size=5),
    st.sampled_from(["s", "ms", "iso", "iso+07:00", "iso-03:30"]),
)
def test_every_record_is_a_plausible_reading_or_a_problem(log: list[dict[str, Any]], clock: str) -> None:
    found = _read(log, _entry(clock=clock))
    assert all(OLDEST <= reading.time <= NOW + AHEAD for reading in found.readings)
    times = {reading.time for reading in found.readings}
    assert len(times) == len(found.readings)
    assert len(found.problems) + sum(read_time(row["at"], clock) in times for row in log) == len(log)
