"""Calibration: what is read, what is refused, and what becomes of a value."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.calibration import Calibration, Touched, calibrate, parse_calibrations, touched
from telemetry.errors import UsageError

METRICS = frozenset({"water.level", "water.ph"})


def _row(**more: Any) -> dict[str, Any]:
    return {"metric": "water.level", "from": "2026-01-01T00:00:00+07:00"} | more


def _parse(*rows: Any) -> tuple[Calibration, ...]:
    return parse_calibrations(list(rows), METRICS)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _micros(*times: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([int(_at(time).timestamp()) * 1_000_000 for time in times], np.int64)


def test_reads_gain_offset_points_and_period() -> None:
    found = _parse(
        _row(metric="water.ph", channel=2, points=[[7.1, 7], [4.2, 4]]),
        _row(**{"from": "2026-06-01T00:00:00Z", "gain": 1.5}),
        _row(to="2026-06-01T07:00:00+07:00", offset=-0.25),
    )
    assert found == (
        Calibration(
            metric="water.level",
            start=datetime(2025, 12, 31, 17, tzinfo=UTC),
            end=datetime(2026, 6, 1, tzinfo=UTC),
            offset=-0.25,
        ),
        Calibration(metric="water.level", start=datetime(2026, 6, 1, tzinfo=UTC), gain=1.5),
        Calibration(
            metric="water.ph",
            channel=2,
            start=datetime(2025, 12, 31, 17, tzinfo=UTC),
            points=((4.2, 4.0), (7.1, 7.0)),
        ),
    )
    assert parse_calibrations([one.to_dict() for one in found], METRICS) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "water.levl"}, ".metric: unknown metric 'water.levl' (did you mean 'water.level'?)"),
        (
            {"from": None},
            ".from: a time with its offset is needed, such as 2026-01-31T00:00:00+07:00; is missing",
        ),
        ({"from": "2026-01-01"}, ".from: a time with its offset is needed"),
        ({"from": "2026-01-01T00:00:00"}, ".from: a time with its offset is needed"),
        ({"from": "0001-01-01T00:00:00+07:00"}, ".from: a time with its offset is needed"),
        ({"from": 3}, "; got 3"),
        ({"to": "2026-01-01T00:00:00+07:00"}, ".to: must be later than `from`"),
        ({"gain": 0}, ".gain: 0 makes every value the same"),
        ({"gain": "1,5"}, ".gain: a number is needed, got '1,5'"),
        ({"offset": float("nan")}, ".offset: a number is needed, got nan"),
        ({"ofset": 1}, ".ofset: unknown key (did you mean 'offset'?)"),
        ({"channel": -1}, ".channel: a whole number from 0 is needed, got -1"),
        ({"points": [[1, 2]]}, ".points: at least two [reported, true] pairs are needed, got [[1, 2]]"),
        ({"points": [[1, 2], [3]]}, ".points: at least two [reported, true] pairs are needed"),
        ({"points": [[1, 2], [1, 3]]}, ".points: two points say what 1 is"),
        ({"points": [[1, 2], [2, "x"]]}, ".points[1][1]: a number is needed, got 'x'"),
        ({"points": [[1, 2], [2, 3]], "gain": 2}, ".points: give either points, or gain and offset"),
    ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        _parse(_row(), _row(channel=1) | changes)
    assert f"calibrations[1]{message}" in str(raised.value) or message in str(raised.value)
    assert "calibrations[0]" not in str(raised.value)


@pytest.mark.parametrize("data", [None, {}, "text", [3]])
def test_refuses_what_is_no_list_of_mappings(data: object) -> None:
    with pytest.raises(UsageError, match="needed, got"):
        parse_calibrations(data, METRICS)


def test_periods_of_one_metric_and_channel_must_not_overlap() -> None:
    late = _row(**{"from": "2026-06-01T00:00:00Z"})
    with pytest.raises(UsageError) as raised:
        _parse(late, _row())
    assert str(raised.value) == (
        "calibrations[0].from: calibrations[1] holds for water.level on channel 0 at that time; "
        "give it `to: 2026-06-01T00:00:00+00:00` or choose a later `from`"
    )
    with pytest.raises(UsageError, match=r"calibrations\[1\]\.from"):
        _parse(_row(), _row())
    _parse(late, _row(to="2026-06-01T00:00:00Z"))
    _parse(late, _row(channel=1), _row(metric="water.ph"))


def test_each_value_is_corrected_by_the_calibration_of_its_time() -> None:
    found = _parse(
        _row(**{"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "offset": 1}),
        _row(**{"from": "2026-03-01T00:00:00Z", "gain": 2}),
    )
    time = _micros(
        "2025-12-31T23:59:59Z",
        "2026-01-01T00:00:00Z",
        "2026-01-31T23:59:59Z",
        "2026-02-01T00:00:00Z",
        "2026-03-01T00:00:00Z",
        "2036-03-01T00:00:00Z",
    )
    value = np.full(6, 10.0)
    corrected, which = calibrate(found, time, value)
    assert corrected.tolist() == [10, 11, 11, 10, 20, 20]
    assert which.tolist() == [-1, 0, 0, -1, 1, 1]
    assert value.tolist() == [10.0] * 6


def test_without_calibrations_a_value_is_itself() -> None:
    corrected, which = calibrate((), _micros("2026-01-01T00:00:00Z"), np.array([3.5]))
    assert (corrected.tolist(), which.tolist()) == ([3.5], [-1])
    assert calibrate(_parse(_row()), np.array([], np.int64), np.array([]))[0].tolist() == []


def test_points_are_joined_by_lines_that_go_on_outside() -> None:
    (one,) = _parse(_row(points=[[0, 1], [10, 11], [20, 31]]))
    value = np.array([-5, 0, 5, 10, 15, 20, 25.0])
    assert one.correct(value).tolist() == [-4, 1, 6, 11, 21, 31, 41]


_NUMBERS = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(_NUMBERS, _NUMBERS), min_size=2, max_size=6, unique_by=lambda p: round(p[0], 2)))
def test_a_line_goes_through_its_points(points: list[tuple[float, float]]) -> None:
    (one,) = _parse(_row(points=[list(point) for point in points]))
    reported = np.array([point[0] for point in points])
    true = [point[1] for point in points]
    np.testing.assert_allclose(one.correct(reported), true, rtol=1e-9, atol=1e-3)


@given(_NUMBERS, st.floats(0.01, 100), st.floats(-1000, 1000))
def test_two_points_are_gain_and_offset(value: float, gain: float, offset: float) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    line = Calibration(metric="water.level", start=start, gain=gain, offset=offset)
    points = Calibration(metric="water.level", start=start, points=((0, offset), (1, gain + offset)))
    expected = line.correct(np.array([value]))
    np.testing.assert_allclose(points.correct(np.array([value])), expected, rtol=1e-6, atol=1e-6)


def test_what_a_change_touches() -> None:
    first = _row(to="2026-02-01T00:00:00Z", offset=1)
    second = _row(**{"from": "2026-02-01T00:00:00Z"})
    other = _row(metric="water.ph", to="2026-02-01T00:00:00Z")
    before, start = _parse(first, second, other), _at("2026-01-01T00:00:00+07:00")
    edge = _at("2026-02-01T00:00:00Z")
    assert touched(before, before) == []
    assert touched(before, _parse(first | {"offset": 2}, second, other)) == [
        Touched("water.level", 0, start, edge)
    ]
    assert touched(before, _parse(first, second | {"gain": 2}, other)) == [
        Touched("water.level", 0, edge, None)
    ]
    assert touched(before, ()) == [
        Touched("water.level", 0, start, None),
        Touched("water.ph", 0, start, edge),
    ]
    assert touched((), _parse(_row(channel=1), other)) == [
        Touched("water.level", 1, start, None),
        Touched("water.ph", 0, start, edge),
    ]
