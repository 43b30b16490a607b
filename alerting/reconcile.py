"""What must change in the log when a timeline was worked out anew. Pure.

An episode runs from leaving step 0 to reaching it again. Late readings may lengthen, merge or split
episodes; the oldest alert that overlaps an episode keeps its id and with it its acknowledgement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from .timeline import Change


class Logged(NamedTuple):
    """A change of level that stands in the log, not withdrawn."""

    alert_id: UUID
    seq: int
    at: int
    from_step: int
    to_step: int


@dataclass(slots=True)
class Plan:
    """What to write for one alert; `alert_id` None is a new one. `withdraw` holds seqs of the log.

    `firing` tells whether the alert's episode goes on.
    """

    alert_id: UUID | None
    firing: bool
    withdraw: list[int] = field(default_factory=list)
    add: list[Change] = field(default_factory=list)


@dataclass(slots=True)
class _Episode:
    changes: list[Change]
    alert_id: UUID | None = None

    @property
    def start(self) -> float:
        return self.changes[0].at if self.changes and self.changes[0].from_step == 0 else float("-inf")

    @property
    def end(self) -> float:
        return self.changes[-1].at if self.changes and self.changes[-1].to_step == 0 else float("inf")


def reconcile(base_alert: UUID | None, logged: Sequence[Logged], changes: Sequence[Change]) -> list[Plan]:
    """Plans that turn the log into `changes`.

    Both sequences lie after one common state, in order of time. `base_alert` is the alert that was firing
    in that state, None when none was. Nothing is planned for an alert whose log is right already.
    """
    episodes = _episodes(base_alert, changes)
    old: dict[UUID, list[Logged]] = {}
    for entry in logged:
        old.setdefault(entry.alert_id, []).append(entry)
    free = {alert_id: entries for alert_id, entries in old.items() if alert_id != base_alert}
    plans = []
    for episode in episodes:
        if episode.alert_id is None:
            episode.alert_id = _oldest_overlapping(free, episode)
        entries = old.get(episode.alert_id, []) if episode.alert_id else []
        if episode.alert_id is not None:
            free.pop(episode.alert_id, None)
        plan = _difference(episode, entries)
        if plan.withdraw or plan.add:
            plans.append(plan)
    plans += [Plan(alert_id, False, [entry.seq for entry in entries]) for alert_id, entries in free.items()]
    # What ends is written before what fires: a series has one firing alert at a time.
    return sorted(plans, key=lambda plan: plan.firing)


def _episodes(base_alert: UUID | None, changes: Sequence[Change]) -> list[_Episode]:
    episodes = [_Episode([], base_alert)] if base_alert is not None else []
    for change in changes:
        if change.from_step == 0 or not episodes:
            episodes.append(_Episode([]))
        episodes[-1].changes.append(change)
    return episodes


def _oldest_overlapping(free: dict[UUID, list[Logged]], episode: _Episode) -> UUID | None:
    for alert_id, entries in sorted(free.items(), key=lambda item: item[1][0].at):
        end = entries[-1].at if entries[-1].to_step == 0 else float("inf")
        if entries[0].at <= episode.end and end >= episode.start:
            return alert_id
    return None


def _difference(episode: _Episode, entries: Sequence[Logged]) -> Plan:
    wanted = {(c.at, c.from_step, c.to_step): c for c in episode.changes}
    have = {(e.at, e.from_step, e.to_step): e.seq for e in entries}
    return Plan(
        episode.alert_id,
        episode.end == float("inf"),
        withdraw=[seq for key, seq in have.items() if key not in wanted],
        add=[change for key, change in wanted.items() if key not in have],
    )
