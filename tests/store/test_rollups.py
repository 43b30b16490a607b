"""Rollups equal what the sorted readings give, whatever happened to these, on every edition."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetry.clock import from_micros, micros
from telemetry.store import superseded
from telemetry.store.edition import Edition, detect
from telemetry.store.lanes import READING_DTYPE, Readings, with_raw
from telemetry.store.policies import set_layouts
from telemetry.store.pool import connect
from telemetry.store.rollups import DAY, HOUR, Rollup, refresh
from telemetry.store.writer import copy_readings

_MIDNIGHT = micros(datetime(2026, 3, 1, 17, tzinfo=UTC))  # of Asia/Ho_Chi_Minh
_MINUTE = 60_000_000
_INTERVAL = 600
_SPANS = [
    (from_micros(_MIDNIGHT + since * _MINUTE), from_micros(_MIDNIGHT + until * _MINUTE))
    for since, until in [(-9000, 9000), (0, 1440), (-60, 60), (1, 61), (-1441, 1439), (0, 0)]
]
_devices = itertools.count(1)


class Series(NamedTuple):
    device_id: int
    temperature: int
    rain: int


@pytest.fixture
def store(database_url: str) -> Any:
    with connect(database_url, application="tests", autocommit=True) as connection:
        if detect(connection) is Edition.COMMUNITY:
            with connection.cursor() as cursor:
                list(set_layouts(cursor))
        connection.execute(
            "INSERT INTO device_type (id, vendor, model, codec, expected_interval, mapping)"
            " VALUES ('t', '', '', 'c', %s, '[]')",
            (_INTERVAL,),
        )
        yield connection


def _new_series(connection: psycopg.Connection[Any], typed: bool = True) -> Series:
    keys = ("air.temperature", "rain.increment")
    metrics = [connection.execute("SELECT id FROM metric WHERE key = %s", (key,)).fetchone() for key in keys]
    device_id = next(_devices)
    if typed:
        connection.execute(
            "INSERT INTO device (id, dev_eui, device_type, status) VALUES (%s, %s, 't', 'active')",
            (device_id, f"{device_id:016x}"),
        )
    return Series(device_id, metrics[0][0], metrics[1][0])  # type: ignore[index]


Row = tuple[int, float, int, int, int, int, int]  # as READING_DTYPE


def _readings(rows: list[Row]) -> Readings:
    return np.array(rows, READING_DTYPE)


def _copy(connection: psycopg.Connection[Any], rows: list[Row]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        copy_readings(cursor, _readings(rows))


def _compress(connection: psycopg.Connection[Any]) -> None:
    if detect(connection) is Edition.COMMUNITY:
        connection.execute(
            "SELECT compress_chunk(c, if_not_compressed => true) FROM show_chunks('reading') c"
        )


def _expected(rows: list[Row], rollup: Rollup, rain: int, typed: bool) -> dict[tuple[Any, ...], Any]:
    width = rollup.seconds * 1_000_000
    buckets: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in sorted(rows):
        start = (row[0] - _MIDNIGHT) // width * width + _MIDNIGHT
        buckets[from_micros(start), row[3], row[4], row[5]].append(row)
    found = {}
    for key, held in buckets.items():
        values = [row[1] for row in held if row[6] not in (4, 9)]
        coverage = min(1, len(held) * _INTERVAL / rollup.seconds) if typed else None
        told: list[float | None] = [None] * 5
        if values:
            total = sum(values) if key[2] == rain else None
            told = [sum(values) / len(values), min(values), max(values), values[-1], total]
        found[key] = (len(held), sum(row[6] == 1 for row in held), *told, coverage)
    return found


def _found(
    connection: psycopg.Connection[Any], rollup: Rollup, device_id: int
) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    rows = connection.execute(
        "SELECT time, device_id, metric_id, channel, count, good, mean, min, max, last, sum, coverage"
        f" FROM {rollup.name} WHERE device_id = %s",  # type: ignore[arg-type]
        (device_id,),
    ).fetchall()
    assert len({row[:4] for row in rows}) == len(rows)
    for since, until in _SPANS:
        between = connection.execute(
            f"SELECT * FROM {rollup.name}_between(ARRAY[%s], ARRAY(SELECT id FROM metric), %s, %s)",  # type: ignore[arg-type]
            (device_id, since, until),
        ).fetchall()
        of_span = sorted(row for row in rows if since <= row[0] < until)
        assert [row[:6] for row in sorted(between)] == [row[:6] for row in of_span]
        for one, other in zip(sorted(between), of_span, strict=True):
            _assert_close(one[6:], other[6:])  # readings may be added up in another order
    return {row[:4]: row[4:] for row in rows}


def _assert_true(
    connection: psycopg.Connection[Any], rows: list[Row], series: Series, typed: bool = True
) -> None:
    for rollup in (HOUR, DAY):
        found = _found(connection, rollup, series.device_id)
        expected = _expected(rows, rollup, series.rain, typed)
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            _assert_close(found[key], values)


def _assert_close(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one == (None if other is None else pytest.approx(other, rel=1e-9, abs=1e-9))


# Around midnight, full hours and each other, some days wide: several chunks, buckets and ties.
_TIMES = st.builds(
    lambda day, minute, us: _MIDNIGHT + day * 1440 * _MINUTE + minute * _MINUTE + us,
    st.integers(-4, 4),
    st.sampled_from([0, 0, 59, 60, 119, 600]),
    st.sampled_from([-1, 0, 0, 1, 30_000_000]),
)
_READING = st.tuples(
    _TIMES,
    st.sampled_from([-1.5, 0.0, 0.1, 0.2, 0.3, 7.0, 1e6]),
    st.integers(1, 6),  # frame
    st.booleans(),  # rain
    st.integers(0, 1),  # channel
    st.sampled_from([1, 1, 1, 2, 3, 4, 9]),
)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("copy"), st.lists(_READING, min_size=1, max_size=12)),
        st.tuples(st.just("replace"), st.integers(1, 6), st.lists(_READING, max_size=4)),
        st.tuples(st.just("correct"), st.integers(1, 6)),
        st.tuples(st.just("compress")),
        st.tuples(st.just("refresh")),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(_STEPS, st.booleans())
def test_rollups_equal_the_sorted_readings(store: Any, steps: list[Any], typed: bool) -> None:
    series = _new_series(store, typed)

    def rows_of(readings: list[Any], frame: int | None = None) -> list[Row]:
        return [
            (
                t,
                v,
                frame or f,
                series.device_id,
                series.rain if rain else series.temperature,
                channel,
                quality,
            )
            for t, v, f, rain, channel, quality in readings
        ]

    held: list[Row] = []
    for step, *arguments in steps:
        if step == "copy":
            held += (new := rows_of(arguments[0]))
            _copy(store, new)
        elif step == "replace":
            frame, readings = arguments
            gone, new = [row for row in held if row[2] == frame], rows_of(readings, frame)
            with store.transaction(), store.cursor() as cursor:
                superseded.remove(cursor, series.device_id, with_raw(_readings(gone)))
                copy_readings(cursor, _readings(new))
            held = [row for row in held if row[2] != frame] + new
        elif step == "correct":
            store.execute(
                "UPDATE reading SET raw = value, value = value + 1 WHERE device_id = %s AND uplink_id = %s",
                (series.device_id, arguments[0]),
            )
            held = [(row[0], row[1] + 1, *row[2:]) if row[2] == arguments[0] else row for row in held]
        elif step == "compress":
            _compress(store)
        else:
            refresh(store, None, None)
    refresh(store, None, None)
    _assert_true(store, held, series, typed)


def test_a_day_begins_at_midnight_in_viet_nam(store: Any) -> None:
    series = _new_series(store)
    rows: list[Row] = [
        (_MIDNIGHT - 1, 1.0, 1, series.device_id, series.temperature, 0, 1),
        (_MIDNIGHT, 2.0, 2, series.device_id, series.temperature, 0, 1),
    ]
    _copy(store, rows)
    days = sorted(key[0] for key in _found(store, DAY, series.device_id))
    assert days == [from_micros(_MIDNIGHT) - timedelta(days=1), from_micros(_MIDNIGHT)]


def test_what_nobody_has_materialised_is_there_at_once(store: Any) -> None:
    series = _new_series(store)
    now = micros(datetime.now(UTC))
    rows: list[Row] = [
        (now - minutes * _MINUTE, float(minutes), 1, series.device_id, series.temperature, 0, 1)
        for minutes in (0, 10, 70, 3000)
    ]
    _copy(store, rows)
    _assert_true(store, rows, series)
    refresh(store, None, from_micros(now) - timedelta(hours=1))
    more: list[Row] = [(now - _MINUTE, 5.0, 1, series.device_id, series.temperature, 0, 4)]
    _copy(store, more)
    _assert_true(store, rows + more, series)


@pytest.mark.parametrize("rollup", [HOUR, DAY])
@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM {between}(ARRAY[%(device)s::int], ARRAY[%(metric)s::smallint], %(since)s, %(until)s)",
        # as exports ask, of series after series
        "SELECT r.* FROM unnest(ARRAY[%(device)s::int], ARRAY[%(metric)s::smallint],"
        " ARRAY[%(since)s::timestamptz], ARRAY[%(until)s::timestamptz]) AS p (device, metric, since, until)"
        " CROSS JOIN LATERAL {between}(ARRAY[device], ARRAY[metric], since, until) r",
    ],
)
def test_a_span_is_computed_from_its_readings_alone(store: Any, rollup: Rollup, query: str) -> None:
    if detect(store) is Edition.COMMUNITY:
        pytest.skip("they lie in continuous aggregates")
    series = _new_series(store)
    _copy(store, [(_MIDNIGHT + hour * 60 * _MINUTE, 1.0, hour, *series[:2], 0, 1) for hour in range(4800)])
    store.execute("ANALYZE reading")
    store.execute("SET enable_seqscan = off")  # chunks this small are read whole
    width = timedelta(seconds=rollup.seconds)
    since = from_micros(_MIDNIGHT) + timedelta(days=100)
    values = {
        "device": series.device_id,
        "metric": series.temperature,
        "since": since,
        "until": since + 2 * width,
    }
    query = "EXPLAIN (ANALYZE, FORMAT json) " + query.format(between=f"{rollup.name}_between")
    (found,) = store.execute(query, values).fetchone()
    read = sum(_read(found[0]["Plan"]))
    assert 2 * rollup.seconds / 3600 <= read <= 3 * rollup.seconds / 3600


def _read(node: dict[str, Any]) -> Iterator[int]:
    """How many readings each scan fetched."""
    if node.get("Relation Name", "").startswith(("reading", "_hyper")) and node["Node Type"] != "Custom Scan":
        yield int(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)))
    for inner in node.get("Plans", ()):
        yield from _read(inner)
