"""Calibration of a device's metric: gain and offset, or points, each for a period. Pure.

Of a counter the increments are corrected, not the count: a gain of 1.02 on 5,000 mm would rain 100 mm at the
moment it begins to hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
import numpy.typing as npt

from telemetry.clock import micros

from .checks import Check

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
"""Microseconds since 1970-01-01T00:00Z."""

_KEYS = ("metric", "channel", "from", "to", "gain", "offset", "points")
_EVER = int(np.iinfo(np.int64).max)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How the readings of one metric and channel are corrected from `start` on, and before `end`.

    ``value * gain + offset``, or with `points` (reported, true) the line through the two points around the
    value; below the first and above the last point the outermost line goes on. All in the metric's unit.
    """

    metric: str
    channel: int = 0
    start: datetime
    end: datetime | None = None
    gain: float = 1.0
    offset: float = 0.0
    points: tuple[tuple[float, float], ...] = ()

    def to_dict(self) -> dict[str, object]:
        """As in a file or request; what has its default is left out."""
        entry: dict[str, object] = {"metric": self.metric}
        if self.channel:
            entry["channel"] = self.channel
        entry["from"] = self.start.isoformat()
        if self.end is not None:
            entry["to"] = self.end.isoformat()
        if self.points:
            return entry | {"points": [list(point) for point in self.points]}
        if self.gain != 1:
            entry["gain"] = self.gain
        if self.offset:
            entry["offset"] = self.offset
        return entry

    def correct(self, value: Floats) -> Floats:
        """Corrected values, of the same shape."""
        if not self.points:
            return value * self.gain + self.offset
        reported, true = np.array(self.points).T
        at = np.clip(np.searchsorted(reported, value, "right") - 1, 0, len(reported) - 2)
        slope = np.diff(true) / np.diff(reported)
        corrected: Floats = true[at] + slope[at] * (value - reported[at])
        return corrected


class Touched(NamedTuple):
    """Readings whose calibration changed: from `start` on, and before `end` where there is one."""

    metric: str
    channel: int
    start: datetime
    end: datetime | None


def parse_calibrations(data: object, known_metrics: Collection[str]) -> tuple[Calibration, ...]:
    """The calibrations of one device, by metric, channel and time.

    Raises:
        UsageError: one line for every fault, each beginning with its path (``calibrations[2].gain: …``).
    """
    check = Check()
    if not isinstance(data, list):
        check.fault("calibrations", f"a list is needed, got {data!r}")
        data = []
    parsed = [_parse(check, f"calibrations[{i}]", row, known_metrics) for i, row in enumerate(data)]
    found = [(index, one) for index, one in enumerate(parsed) if one is not None]
    found.sort(key=lambda item: (item[1].metric, item[1].channel, item[1].start))
    for (first, one), (second, other) in pairwise(found):
        same = (one.metric, one.channel) == (other.metric, other.channel)
        if same and (one.end is None or other.start < one.end):
            check.fault(
                f"calibrations[{second}].from",
                f"calibrations[{first}] holds for {other.metric} on channel {other.channel} at that time; "
                f"give it `to: {other.start.isoformat()}` or choose a later `from`",
            )
    check.done()
    return tuple(one for _, one in found)


def calibrate(
    calibrations: Sequence[Calibration], time: Times, value: Floats
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Corrected values, and which of the calibrations made each; -1 and the value itself where none holds.

    `calibrations` are those of one device, metric and channel, as `parse_calibrations` orders them; `time`,
    `value` and both results have shape (n,).
    """
    corrected = value.copy()
    start = np.array([micros(one.start) for one in calibrations], np.int64)
    end = np.array([_EVER if one.end is None else micros(one.end) for one in calibrations], np.int64)
    which = np.searchsorted(start, time, "right") - 1
    if calibrations:
        which = np.where((which >= 0) & (time < end[which]), which, -1)
    for index in np.unique(which[which >= 0]):
        rows = which == index
        corrected[rows] = calibrations[index].correct(value[rows])
    return corrected, which


def touched(before: Iterable[Calibration], after: Iterable[Calibration]) -> list[Touched]:
    """Where readings are to be corrected anew when a device's calibrations change, without overlaps."""
    changed = set(before) ^ set(after)
    spans: list[Touched] = []
    for one in sorted(changed, key=lambda one: (one.metric, one.channel, one.start)):
        last = spans[-1] if spans else None
        if last and last[:2] == (one.metric, one.channel) and (last.end is None or one.start <= last.end):
            end = None if last.end is None or one.end is None else max(last.end, one.end)
            spans[-1] = last._replace(end=end)
        else:
            spans.append(Touched(one.metric, one.channel, one.start, one.end))
    return spans


def _parse(check: Check, path: str, row: object, known_metrics: Collection[str]) -> Calibration | None:
    faults = len(check.faults)
    if not check.mapping(path, row, _KEYS):
        return None
    values = cast(Mapping[str, Any], row)
    start = _parse_time(check, f"{path}.from", values.get("from"))
    end = None if values.get("to") is None else _parse_time(check, f"{path}.to", values["to"])
    if start and end and end <= start:
        check.fault(f"{path}.to", "must be later than `from`")
    gain = check.number(f"{path}.gain", values.get("gain", 1))
    if values.get("gain") == 0:
        check.fault(f"{path}.gain", "0 makes every value the same")
    if "points" in values and ("gain" in values or "offset" in values):
        check.fault(f"{path}.points", "give either points, or gain and offset")
    metric = check.metric(f"{path}.metric", values.get("metric"), known_metrics)
    channel = check.integer(f"{path}.channel", values.get("channel", 0), 0)
    offset = check.number(f"{path}.offset", values.get("offset", 0))
    points = _parse_points(check, f"{path}.points", values.get("points"))
    if len(check.faults) > faults or start is None:
        return None
    return Calibration(
        metric=metric, channel=channel, start=start, end=end, gain=gain, offset=offset, points=points
    )


def _parse_points(check: Check, path: str, value: object) -> tuple[tuple[float, float], ...]:
    if value is None:
        return ()
    pairs = value if isinstance(value, list) else []
    if len(pairs) < 2 or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        check.fault(path, f"at least two [reported, true] pairs are needed, got {value!r}")
        return ()
    points = sorted(
        (check.number(f"{path}[{i}][0]", pair[0]), check.number(f"{path}[{i}][1]", pair[1]))
        for i, pair in enumerate(pairs)
    )
    for (low, _), (high, _) in pairwise(points):
        if low == high:
            check.fault(path, f"two points say what {low:g} is")
    return tuple(points)


def _parse_time(check: Check, path: str, value: object) -> datetime | None:
    with suppress(ValueError, OverflowError):
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(time, datetime) and time.tzinfo is not None:
            return time.astimezone(UTC)
    problem = "is missing" if value is None else f"got {value}"
    check.fault(path, f"a time with its offset is needed, such as 2026-01-31T00:00:00+07:00; {problem}")
    return None
