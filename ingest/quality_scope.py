"""What a change of some readings bears on: which have to be judged again, and what has to be read for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from telemetry.catalogue import CATALOGUE, checks_of
from telemetry.checks import Check, Checks, Outcome, stored_station_checks
from telemetry.model import Quality
from telemetry.store.flags import Flags, Tests, base_flag, pack
from telemetry.store.overrides import Override

from .qartod import SERIES_DTYPE, Plan, evaluate, outcomes_of, reach
from .quality_store import (
    Connection,
    Site,
    Span,
    Stored,
    read_groups,
    read_overrides,
    read_sites,
    read_stored,
)

_SECOND = 1_000_000
_GROWTHS = frozenset(metric.increment for metric in CATALOGUE.values() if metric.increment)
_NOBODY = Site(None, None, "{}")


class Findings(NamedTuple):
    """Stored readings whose flag or tests differ from what they ought to be, and what that is."""

    stored: Stored
    quality: Flags
    tests: Tests


class Scope:
    """`targets` are judged, with what lies in `spans`; both hold each device and metric in order of time."""

    def __init__(
        self,
        keys: Mapping[int, str],
        sites: Mapping[int, Site],
        groups: Mapping[str, Sequence[int]],
        spans: Iterable[Span],
    ) -> None:
        self._keys = keys
        self._sites = sites
        self._groups = groups
        self.targets = merged(self._touched(spans))
        self.spans = merged(self._needed())

    @property
    def device_ids(self) -> set[int]:
        return {span.device_id for span in self.spans}

    def checks(self, device_id: int, metric_id: int) -> Checks:
        return _checks(self._sites.get(device_id, _NOBODY).checks, self._keys.get(metric_id, ""))

    def others(self, device_id: int) -> list[int]:
        """The devices at the other stations of its group."""
        site = self._sites.get(device_id, _NOBODY)
        group = stored_station_checks(site.checks).group
        return [
            other
            for other in (self._groups.get(group, ()) if group else ())
            if other in self._sites and self._sites[other].station_id != site.station_id
        ]

    def judge(self, stored: Stored, overrides: Sequence[Override]) -> Findings:
        """What of the targets among these readings of `spans` is stored otherwise than it ought to be."""
        stored, rows, plans, targets = self.laid_out(stored, overrides)
        judged = evaluate(rows, plans, targets)
        base = base_flag(stored["quality"], stored["tests"])
        tests = pack(base, judged.quality, judged.outcomes)
        differ = targets & ((judged.quality != stored["quality"]) | (tests != stored["tests"]))
        return Findings(stored[differ], judged.quality[differ], tests[differ])

    def laid_out(
        self, stored: Stored, overrides: Sequence[Override]
    ) -> tuple[Stored, npt.NDArray[np.void], list[Plan], npt.NDArray[np.bool_]]:
        """The readings in order, as `evaluate` takes them with their plans, and which of them are targets."""
        owners = np.array([span[:2] for span in self.spans], np.int64).reshape(-1, 2)[stored["span"]]
        series = owners[:, 0] << 32 | owners[:, 1] << 16 | stored["channel"]
        order = np.lexsort((stored["uplink_id"], stored["value"], stored["time"], series))
        stored, series = stored[order], series[order]
        _, first, number = np.unique(series, return_index=True, return_inverse=True)
        owned = [(*owners[order[at]].tolist(), int(stored["channel"][at])) for at in first.tolist()]
        rows = np.zeros(len(stored), SERIES_DTYPE)
        rows["series"], rows["time"], rows["value"] = number, stored["time"], stored["value"]
        growths = [n for n, (_, metric_id, _) in enumerate(owned) if self._keys.get(metric_id) in _GROWTHS]
        if growths:
            base = base_flag(stored["quality"], stored["tests"])
            rows["restart"] = np.isin(number, growths) & (base == Quality.SUSPECT)
        ends = np.append(first[1:], len(stored))
        bounds = {
            key: (begin, end) for key, begin, end in zip(owned, first.tolist(), ends.tolist(), strict=True)
        }
        for one in overrides:
            begin, end = bounds.get((one.device_id, one.metric_id, one.channel), (0, 0))
            some = slice(*(begin + np.searchsorted(rows["time"][begin:end], (one.first, one.end))))
            rows["override"][some] = one.quality
        targets = np.zeros(len(stored), bool)
        channels: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for (device_id, metric_id, _), bound in bounds.items():
            channels.setdefault((device_id, metric_id), []).append(bound)
        for target in self.targets:
            for begin, end in channels.get(target[:2], ()):
                times = rows["time"][begin:end]
                low = begin + int(np.searchsorted(times, target.first))
                targets[low : begin + int(np.searchsorted(times, target.last, "right"))] = True
        return stored, rows, self._plans(owned), targets

    def _plans(self, owned: Sequence[tuple[int, int, int]]) -> list[Plan]:
        of_device: dict[tuple[int, int], list[int]] = {}
        for number, (device_id, metric_id, _) in enumerate(owned):
            of_device.setdefault((device_id, metric_id), []).append(number)
        plans = []
        for device_id, metric_id, _ in owned:
            checks, neighbours = self.checks(device_id, metric_id), list[int]()
            if checks.get(Check.NEIGHBOUR):
                for other in self.others(device_id):
                    neighbours += of_device.get((other, metric_id), ())
            plans.append(Plan(checks, self._sites.get(device_id, _NOBODY).interval, neighbours))
        return plans

    def _reach(self, device_id: int, metric_id: int) -> tuple[int, int]:
        site = self._sites.get(device_id, _NOBODY)
        return _reach(site.checks, self._keys.get(metric_id, ""), site.interval)

    def _touched(self, spans: Iterable[Span]) -> Iterable[Span]:
        for device_id, metric_id, first, last in spans:
            back, ahead = self._reach(device_id, metric_id)
            yield Span(device_id, metric_id, first - ahead, last + back)
            for other in self.others(device_id):
                if neighbour := self.checks(other, metric_id).get(Check.NEIGHBOUR):
                    beside = neighbour.within * _SECOND
                    yield Span(other, metric_id, first - beside, last + beside)

    def _needed(self) -> Iterable[Span]:
        for device_id, metric_id, first, last in self.targets:
            back, ahead = self._reach(device_id, metric_id)
            yield Span(device_id, metric_id, first - back, last + ahead)
            if neighbour := self.checks(device_id, metric_id).get(Check.NEIGHBOUR):
                beside = neighbour.within * _SECOND
                for other in self.others(device_id):
                    yield Span(other, metric_id, first - beside, last + beside)


class Explained(NamedTuple):
    """What the tests find in one stored reading, as of now; `pending`: the job has yet to write it."""

    uplink_id: int
    value: float
    quality: int
    outcomes: Mapping[Check, Outcome]
    pending: bool


async def explain(
    connection: Connection, metric: tuple[int, str], device_id: int, channel: int, at: int
) -> tuple[Checks, list[Explained]]:
    """The checks of a series, and what they find in its readings of the time `at` (µs since 1970)."""
    span = Span(device_id, metric[0], at, at)
    scope = await find_scope(connection, dict([metric]), [span])
    overrides = await read_overrides(connection, scope.device_ids)
    stored, rows, plans, _ = scope.laid_out(await read_stored(connection, scope.spans), overrides)
    owners = np.array([one[0] for one in scope.spans], np.int64)[stored["span"]]
    asked = (stored["time"] == at) & (stored["channel"] == channel) & (owners == device_id)
    judged = evaluate(rows, plans, asked)
    tests = pack(base_flag(stored["quality"], stored["tests"]), judged.quality, judged.outcomes)
    pending = (judged.quality != stored["quality"]) | (tests != stored["tests"])
    found = [
        Explained(
            int(stored["uplink_id"][row]),
            float(stored["value"][row]),
            int(judged.quality[row]),
            outcomes_of(judged.outcomes[row]),
            bool(pending[row]),
        )
        for row in np.flatnonzero(asked).tolist()
    ]
    return scope.checks(device_id, metric[0]), sorted(found, key=lambda one: one[:2])


async def find_scope(connection: Connection, keys: Mapping[int, str], spans: Sequence[Span]) -> Scope:
    """What changes within these spans bear on, by the settings of now; `keys` are the metrics' by id."""
    sites = await read_sites(connection, {span.device_id for span in spans})
    groups = {stored_station_checks(site.checks).group for site in sites.values()} - {None}
    members = await read_groups(connection, [group for group in groups if group])
    if further := {device for some in members.values() for device in some} - sites.keys():
        sites |= await read_sites(connection, further)
    return Scope(keys, sites, members, spans)


def merged(spans: Iterable[Span]) -> list[Span]:
    """In order, those of a device and metric that overlap as one."""
    found: list[Span] = []
    for span in sorted(spans):
        last = found[-1] if found else None
        if last is not None and last[:2] == span[:2] and span.first <= last.last:
            found[-1] = last._replace(last=max(last.last, span.last))
        else:
            found.append(span)
    return found


@lru_cache(maxsize=50_000)
def _reach(station: str, metric: str, interval: float | None) -> tuple[int, int]:
    return reach(_checks(station, metric), interval)


@lru_cache(maxsize=50_000)
def _checks(station: str, metric: str) -> Checks:
    return checks_of(metric, stored_station_checks(station))
