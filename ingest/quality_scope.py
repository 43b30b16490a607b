"""What a change of some readings bears on: which have to be judged again, and what has to be read for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from telemetry.catalogue import checks_of
from telemetry.checks import Check, Checks, Outcome, stored_station_checks
from telemetry.store.flags import Flags, Tests, base_flag, pack, restarted
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
_NOWHERE = (Site(None, None, "{}"),)


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
        sites: Mapping[int, Sequence[Site]],
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

    def checks(self, device_id: int, metric_id: int, at: int) -> Checks:
        """What held for its readings at this time (µs since 1970)."""
        (site,) = (site for site in self._stood(device_id) if site.first <= at < site.end)
        return self._asked(site, metric_id)

    def _stood(self, device_id: int) -> Sequence[Site]:
        return self._sites.get(device_id, _NOWHERE)

    def _asked(self, site: Site, metric_id: int) -> Checks:
        return _checks(site.checks, self._keys.get(metric_id, ""))

    def _others(self, device_id: int) -> set[int]:
        """The devices that are or were at other stations of the groups it is or was in."""
        return {
            other
            for site in self._stood(device_id)
            if (group := _group(site)) is not None
            for other in self._groups.get(group, ())
            if other != device_id and any(_beside(site, there) for there in self._stood(other))
        }

    def _beside(self, device_id: int, metric_id: int) -> int | None:
        """How far apart (µs) its readings and its neighbours' are compared, at most; None: they are not."""
        checks = [self._asked(site, metric_id).get(Check.NEIGHBOUR) for site in self._stood(device_id)]
        return max((check.within * _SECOND for check in checks if check), default=None)

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
        stored, series, owners = stored[order], series[order], owners[order]
        stay = self._stays(owners[:, 0], stored["time"])
        begins = np.ones(len(stored), bool)
        begins[1:] = (series[1:] != series[:-1]) | (stay[1:] != stay[:-1])
        first, number = np.flatnonzero(begins), np.cumsum(begins) - 1
        owned = [
            (*owners[at].tolist(), int(stored["channel"][at]), self._stood(int(owners[at, 0]))[stay[at]])
            for at in first.tolist()
        ]
        rows = np.zeros(len(stored), SERIES_DTYPE)
        rows["series"], rows["time"], rows["value"] = number, stored["time"], stored["value"]
        rows["restart"] = restarted(stored["tests"])
        bounds: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        channels: dict[tuple[int, int], list[tuple[int, int]]] = {}
        ends = np.append(first[1:], len(stored))
        for (device_id, metric_id, channel, _), *bound in zip(
            owned, first.tolist(), ends.tolist(), strict=True
        ):
            bounds.setdefault((device_id, metric_id, channel), []).append((bound[0], bound[1]))
            channels.setdefault((device_id, metric_id), []).append((bound[0], bound[1]))
        for one in overrides:
            for begin, end in bounds.get((one.device_id, one.metric_id, one.channel), ()):
                some = slice(*(begin + np.searchsorted(rows["time"][begin:end], (one.first, one.end))))
                rows["override"][some] = one.quality
        targets = np.zeros(len(stored), bool)
        for target in self.targets:
            for begin, end in channels.get(target[:2], ()):
                times = rows["time"][begin:end]
                low = begin + int(np.searchsorted(times, target.first))
                targets[low : begin + int(np.searchsorted(times, target.last, "right"))] = True
        return stored, rows, self._plans(owned), targets

    def _stays(self, devices: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """At which of its device's sites each reading was made: at each a series begins anew."""
        found = np.zeros(len(time), np.int64)
        for device_id in np.unique(devices).tolist():
            if len(sites := self._stood(device_id)) > 1:
                some = devices == device_id
                found[some] = np.searchsorted([site.first for site in sites], time[some], "right") - 1
        return found

    def _plans(self, owned: Sequence[tuple[int, int, int, Site]]) -> list[Plan]:
        of_device: dict[tuple[int, int], list[tuple[int, Site]]] = {}
        for number, (device_id, metric_id, _, site) in enumerate(owned):
            of_device.setdefault((device_id, metric_id), []).append((number, site))
        plans = []
        for _, metric_id, _, site in owned:
            checks, group, neighbours = self._asked(site, metric_id), _group(site), list[int]()
            if group is not None and checks.get(Check.NEIGHBOUR):
                neighbours = [
                    number
                    for other in self._groups.get(group, ())
                    for number, there in of_device.get((other, metric_id), ())
                    if _beside(site, there)
                ]
            plans.append(Plan(checks, site.interval, neighbours))
        return plans

    def _reach(self, device_id: int, metric_id: int) -> tuple[int, int]:
        key = self._keys.get(metric_id, "")
        every = [_reach(site.checks, key, site.interval) for site in self._stood(device_id)]
        return max(back for back, _ in every), max(ahead for _, ahead in every)

    def _touched(self, spans: Iterable[Span]) -> Iterable[Span]:
        for device_id, metric_id, first, last in spans:
            back, ahead = self._reach(device_id, metric_id)
            yield Span(device_id, metric_id, first - ahead, last + back)
            for other in self._others(device_id):
                if beside := self._beside(other, metric_id):
                    yield Span(other, metric_id, first - beside, last + beside)

    def _needed(self) -> Iterable[Span]:
        for device_id, metric_id, first, last in self.targets:
            back, ahead = self._reach(device_id, metric_id)
            yield Span(device_id, metric_id, first - back, last + ahead)
            if beside := self._beside(device_id, metric_id):
                for other in self._others(device_id):
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
    return scope.checks(device_id, metric[0], at), sorted(found, key=lambda one: one[:2])


async def find_scope(connection: Connection, keys: Mapping[int, str], spans: Sequence[Span]) -> Scope:
    """What changes within these spans bear on, by the settings of now; `keys` are the metrics' by id."""
    sites = await read_sites(connection, {span.device_id for span in spans})
    groups = {_group(site) for stood in sites.values() for site in stood} - {None}
    members = await read_groups(connection, [group for group in groups if group])
    if further := {device for some in members.values() for device in some} - sites.keys():
        sites |= await read_sites(connection, further)
    return Scope(keys, sites, members, spans)


def _group(site: Site) -> str | None:
    return stored_station_checks(site.checks).group


def _beside(site: Site, other: Site) -> bool:
    """Whether they are different stations of one group."""
    group = _group(site)
    return group is not None and group == _group(other) and site.station_id != other.station_id


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
