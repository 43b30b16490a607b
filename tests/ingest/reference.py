"""What quality tests ought to find, reading by reading, as docs/reference/quality.md says it: slow and plain.

It reads the tables by itself and shares nothing with the job but the settings' meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, NamedTuple

import psycopg

from telemetry.catalogue import checks_of
from telemetry.checks import Check, Checks, Outcome, stored_station_checks

Found = dict[Check, Outcome]
Instants = list[tuple[float, float]]
_S, _F = Outcome.SUSPECT, Outcome.FAIL
_READINGS = """
    SELECT r.device_id, m.key, r.channel, extract(epoch FROM r.time)::float8 AS time, r.value, r.quality,
           r.tests, t.expected_interval AS interval, p.station_id, p.valid_from,
           coalesce(s.quality, '{}')::text AS checks,
           (SELECT o.quality FROM quality_override o
            WHERE o.device_id = r.device_id AND o.metric_id = r.metric_id AND o.channel = r.channel
              AND o.valid_from <= r.time AND (o.valid_to IS NULL OR r.time < o.valid_to)
              AND o.withdrawn_at IS NULL ORDER BY o.id DESC LIMIT 1) AS said
    FROM reading r JOIN metric m ON m.id = r.metric_id JOIN device d ON d.id = r.device_id
    LEFT JOIN device_type t ON t.id = d.device_type
    LEFT JOIN device_station_period p ON p.device_id = d.id AND tstzrange(p.valid_from, p.valid_to) @> r.time
    LEFT JOIN station s ON s.id = p.station_id
"""


class Reading(NamedTuple):
    """A row of `_READINGS`; times in seconds since 1970."""

    device_id: int
    key: str
    channel: int
    time: float
    value: float
    quality: int
    tests: int | None
    interval: float | None
    station_id: int | None
    valid_from: datetime | None
    checks: str
    said: int | None

    @property
    def series(self) -> tuple[Any, ...]:
        """At another station another one begins."""
        return self.device_id, self.key, self.channel, self.station_id, self.valid_from

    @property
    def group(self) -> str | None:
        return stored_station_checks(self.checks).group

    @property
    def limits(self) -> Checks:
        return checks_of(self.key, stored_station_checks(self.checks))

    @property
    def usable(self) -> bool:
        gross = self.limits.get(Check.GROSS_RANGE)
        if self.said is not None:
            return self.said != 4
        return gross is None or bool(gross.fail[0] <= self.value <= gross.fail[1])

    @property
    def restarted(self) -> bool:
        """Of an increment: its job said so, and no test does."""
        return self.tests is not None and self.tests >> 2 * Check.RESTART & 3 > 0


def judge(database: psycopg.Connection[dict[str, Any]]) -> list[tuple[Reading, int, Found]]:
    """Every stored reading with its flag and what tests find in it."""
    rows = [Reading(**row) for row in database.execute(_READINGS).fetchall()]
    series: dict[tuple[Any, ...], list[Reading]] = {}
    for row in rows:
        series.setdefault(row.series, []).append(row)
    judged = []
    for row in rows:
        found = _alone(row) | _gap(row, series[row.series])
        if row.usable:
            found |= _in_order(row, _instants(series[row.series])) | _beside(row, series)
        worst = {outcome for check, outcome in found.items() if check not in (Check.GAP, Check.OVERRIDE)}
        flag = row.said or (4 if _F in worst else 3 if _S in worst else 1)
        judged.append((row, flag, found))
    return judged


def _instants(readings: list[Reading]) -> Instants:
    """Of several values at one time the greatest."""
    found: dict[float, float] = {}
    for one in readings:
        if one.usable:
            found[one.time] = max(one.value, found.get(one.time, one.value))
    return sorted(found.items())


def _exceeds(value: float, limit: float | None, scale: float) -> bool:
    return limit is not None and value > limit + 1e-9 * (1 + abs(scale))


def _outcome(check: Check, *, fails: bool, doubted: bool) -> Found:
    return {check: _F} if fails else {check: _S} if doubted else {}


def _alone(row: Reading) -> Found:
    gross, seasons = row.limits.get(Check.GROSS_RANGE), row.limits.get(Check.CLIMATOLOGY) or ()
    found: Found = {}
    if gross is not None:
        low, high = gross.suspect or gross.fail
        fails, doubted = not gross.fail[0] <= row.value <= gross.fail[1], not low <= row.value <= high
        found |= _outcome(Check.GROSS_RANGE, fails=fails, doubted=doubted)
    month = (datetime.fromtimestamp(row.time, UTC) + timedelta(hours=7)).month
    for season in seasons:
        if month in season.months and not season.suspect[0] <= row.value <= season.suspect[1]:
            found[Check.CLIMATOLOGY] = _S
    if row.restarted:
        found[Check.RESTART] = _S
    if row.said is not None:
        found[Check.OVERRIDE] = _S
    return found


def _gap(row: Reading, readings: list[Reading]) -> Found:
    gap = row.limits.get(Check.GAP)
    if gap is None or row.interval is None or gap.intervals * row.interval > 86_400:
        return {}
    before = [one.time for one in readings if one.time < row.time]
    quiet = not before or row.time - max(before) > gap.intervals * row.interval
    return {Check.GAP: _S} if quiet else {}


def _spike(row: Reading, value: float, at: int, instants: Instants) -> Found:
    limits = row.limits.get(Check.SPIKE)
    if limits is None or not 0 < at < len(instants) - 1:
        return {}
    (earlier, before), (time, _), (later, behind) = instants[at - 1 : at + 2]
    if max(time - earlier, later - time) > limits.within:
        return {}
    if limits.method == "average":
        height = abs(value - (before + behind) / 2)
    else:
        same_side = (value > before) == (value > behind) and value not in (before, behind)
        height = min(abs(value - before), abs(value - behind)) if same_side else 0.0
    fails, doubted = (_exceeds(height, limit, value) for limit in (limits.fail, limits.suspect))
    return _outcome(Check.SPIKE, fails=fails, doubted=doubted)


def _in_order(row: Reading, instants: Instants) -> Found:
    at = [time for time, _ in instants].index(row.time)
    found = _spike(row, row.value, at, instants)
    rate, flat = row.limits.get(Check.RATE_OF_CHANGE), row.limits.get(Check.FLAT_LINE)
    steady = [n for n in range(at) if not _spike(row, instants[n][1], n, instants)]
    if rate is not None and steady:
        earlier, before = instants[steady[-1]]
        ago, reach = row.time - earlier, max(rate.within, min(6 * rate.within, 21_600))
        if ago <= reach and _exceeds(abs(row.value - before), rate.by * max(1, ago / rate.within), row.value):
            found[Check.RATE_OF_CHANGE] = _S
    if flat is not None:

        def still(width: float, count: int) -> bool:
            return count >= flat.count and not _exceeds(width, flat.tolerance, row.value)

        lasting = [_stretch(row.time, seconds, instants, still) for seconds in (flat.fail, flat.suspect)]
        found |= _outcome(Check.FLAT_LINE, fails=lasting[0], doubted=lasting[1])
    if (weak := row.limits.get(Check.ATTENUATED)) is not None:
        fails, doubted = (
            limit is not None
            and _stretch(
                row.time,
                weak.window,
                instants,
                lambda width, count, limit=limit: (  # type: ignore[misc]
                    count >= weak.count and _exceeds(limit, width, row.value)
                ),
            )
            for limit in (weak.fail, weak.suspect)
        )
        found |= _outcome(Check.ATTENUATED, fails=fails, doubted=doubted)
    return found


def _stretch(
    time: float, seconds: int | None, instants: Instants, holds: Callable[[float, int], bool]
) -> bool:
    """Whether it holds of the values from the newest one that is so old, and not twice as old, up to now."""
    begins = [one for one, _ in instants if seconds is not None and one <= time - seconds]
    if seconds is None or not begins or time - begins[-1] > 2 * seconds:
        return False
    values = [value for one, value in instants if begins[-1] <= one <= time]
    return holds(max(values) - min(values), len(values))


def _beside(row: Reading, series: dict[tuple[Any, ...], list[Reading]]) -> Found:
    limits = row.limits.get(Check.NEIGHBOUR)
    if limits is None or row.group is None:
        return {}
    near = []
    for readings in series.values():
        one = readings[0]
        if (one.key, one.group) == (row.key, row.group) and one.station_id != row.station_id:
            away = [(abs(time - row.time), time, value) for time, value in _instants(readings)]
            if away and min(away)[0] <= limits.within:
                near.append(min(away)[2])
    far = len(near) >= limits.least and _exceeds(abs(row.value - median(near)), limits.suspect, row.value)
    return {Check.NEIGHBOUR: _S} if far else {}
