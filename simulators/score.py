"""What a product raised against what was so. Pure: an answer sheet, and the changes of level it logged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from statistics import median
from typing import Any, NamedTuple

from .sheet import AnswerLevel, AnswerSheet, Hazard, Lie, Passage, Target


class Change(NamedTuple):
    """A rule's alert on a sensor came to a level (0: ended) at event time `at`, and said so at `known_at`."""

    rule: str
    dev_eui: str
    metric: str
    to_level: int
    at: datetime
    known_at: datetime


class Raised(NamedTuple):
    """A rule held a sensor to be at or above a level; `until` None: to the end."""

    since: datetime
    known_at: datetime
    until: datetime | None


Rules = Callable[[Target, AnswerLevel], Collection[str]]
"""The rules that are to raise this level of this sensor."""


@dataclass(slots=True)
class Tally:
    """Of one rule and level.

    `false_at` are alarms for nothing, `fooled_at` those that were raised because a sensor lied, `lingering`
    those that did not end with what they were raised for.
    Delays are seconds from the passing of the level to the alarm: `delays` by the time of the reading that
    proved it, `told` by the time the product knew.
    """

    rule: str
    level: int
    detected: int = 0
    missed: int = 0
    lingering: int = 0
    false_at: list[datetime] = field(default_factory=list)
    fooled_at: list[datetime] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Numbers alone, delays as median and worst; None where nothing was detected."""
        return {
            "rule": self.rule,
            "level": self.level,
            "detected": self.detected,
            "missed": self.missed,
            "false": len(self.false_at),
            "fooled": len(self.fooled_at),
            "lingering": self.lingering,
            "delay_median_s": round(median(self.delays), 1) if self.delays else None,
            "delay_worst_s": round(max(self.delays), 1) if self.delays else None,
            "told_median_s": round(median(self.told), 1) if self.told else None,
            "told_worst_s": round(max(self.told), 1) if self.told else None,
        }


class Finding(NamedTuple):
    """What was raised at a hazard's station, for its metric, in its time, by which rules; none: nothing was.

    Delays are seconds from its begin to the first alarm, as in `Tally`.
    """

    hazard: Hazard
    rules: tuple[str, ...] = ()
    delay: float | None = None
    told: float | None = None

    @property
    def found(self) -> bool:
        return bool(self.rules)


class Score(NamedTuple):
    """A tally for each rule and level that the sheet can judge, by rule and level; and each hazard."""

    tallies: list[Tally]
    findings: list[Finding]

    @property
    def clean(self) -> bool:
        """Whether nothing was missed, false or lingering."""
        return not any(tally.missed or tally.false_at or tally.lingering for tally in self.tallies)


def score(sheet: AnswerSheet, changes: Iterable[Change], rules: Rules) -> Score:
    """Changes of sensors, metrics and levels that the sheet does not tell of are not judged."""
    logged = _by_series(changes)
    tallies: dict[tuple[str, int], Tally] = {}
    for target in sheet.targets:
        lies = [lie for lie in sheet.lies if _fools(lie, target)]
        for level in target.levels:
            for rule in rules(target, level):
                tally = tallies.setdefault((rule, level.level), Tally(rule, level.level))
                series = logged.get((rule, target.dev_eui, target.metric), [])
                _judge(tally, sheet, level.passages, lies, list(raised(series, level.level)))
    return Score(
        [tallies[key] for key in sorted(tallies)], [_find(sheet, hazard, logged) for hazard in sheet.hazards]
    )


def raised(changes: Iterable[Change], level: int) -> Iterator[Raised]:
    """When one series was held to be at or above a level, from its changes in their order."""
    begin: Change | None = None
    for change in changes:
        if begin is None and change.to_level >= level:
            begin = change
        elif begin is not None and change.to_level < level:
            yield Raised(begin.at, begin.known_at, change.at)
            begin = None
    if begin is not None:
        yield Raised(begin.at, begin.known_at, None)


def _fools(lie: Lie, target: Target) -> bool:
    """Whether it changes what the target's readings say."""
    same = lie.dev_eui == target.dev_eui and lie.metric in (None, target.metric)
    return same and lie.kind not in ("silent", "battery")


def _judge(
    tally: Tally,
    sheet: AnswerSheet,
    passages: Iterable[Passage],
    lies: Collection[Lie],
    alarms: list[Raised],
) -> None:
    explained: set[Raised] = set()
    for passage in passages:
        begin = passage.earliest or sheet.starts
        standing = [a for a in alarms if a.since <= passage.latest and (a.until is None or a.until >= begin)]
        if standing:
            passed = passage.rising_at or sheet.starts
            tally.detected += 1
            tally.delays.append(max((standing[0].since - passed).total_seconds(), 0.0))
            tally.told.append(max((standing[0].known_at - passed).total_seconds(), 0.0))
        elif passage.sure:
            tally.missed += 1
        mine = [a for a in alarms if begin <= a.since and (passage.gone is None or a.since <= passage.gone)]
        if passage.gone is not None and passage.gone < sheet.ends:
            tally.lingering += sum(alarm.until is None for alarm in mine)
        explained.update(mine)
    late = timedelta(seconds=sheet.tolerance_s)
    for alarm in alarms:
        if alarm in explained or not sheet.starts <= alarm.since <= sheet.ends:
            continue
        fooled = any(lie.begins <= alarm.since <= (lie.ends or sheet.ends) + late for lie in lies)
        (tally.fooled_at if fooled else tally.false_at).append(alarm.since)


def _find(sheet: AnswerSheet, hazard: Hazard, logged: Mapping[tuple[str, str, str], list[Change]]) -> Finding:
    begins = hazard.begins or sheet.starts
    ends = (hazard.ends or sheet.ends) + timedelta(seconds=sheet.tolerance_s)
    found = sorted(
        (alarm.since, alarm.known_at, rule)
        for (rule, dev_eui, metric), changes in logged.items()
        if dev_eui in hazard.devices and metric == hazard.metric
        for alarm in raised(changes, 1)
        if alarm.since <= ends and (alarm.until is None or alarm.until >= begins)
    )
    if not found:
        return Finding(hazard)
    since, known_at, _ = found[0]
    return Finding(
        hazard,
        tuple(dict.fromkeys(rule for _, _, rule in found)),
        max((since - begins).total_seconds(), 0.0),
        max((known_at - begins).total_seconds(), 0.0),
    )


def _by_series(changes: Iterable[Change]) -> Mapping[tuple[str, str, str], list[Change]]:
    def series(change: Change) -> tuple[str, str, str]:
        return change.rule, change.dev_eui, change.metric

    ordered = sorted(changes, key=lambda change: (*series(change), change.at))
    return {key: list(group) for key, group in groupby(ordered, series)}
