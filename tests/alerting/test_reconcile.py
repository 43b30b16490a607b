"""Turning the log into a new timeline."""

from __future__ import annotations

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from alerting.reconcile import Logged, Plan, reconcile
from alerting.timeline import Change, Machine

A, B = UUID(int=1), UUID(int=2)


def changes(*steps: tuple[int, int, int]) -> list[Change]:
    return [Change(at, a, b, 0.0, Machine(b, ())) for at, a, b in steps]


def apply(base: UUID | None, logged: list[Logged], plans: list[Plan]) -> list[Logged]:
    """The log after these plans."""
    kept = [e for e in logged if not any(p.alert_id == e.alert_id and e.seq in p.withdraw for p in plans)]
    for plan in plans:
        alert_id = plan.alert_id or uuid4()
        kept += [Logged(alert_id, 1000 + i, c.at, c.from_step, c.to_step) for i, c in enumerate(plan.add)]
    return sorted(kept, key=lambda e: e.at)


def test_a_new_episode_is_a_new_alert() -> None:
    got = changes((1, 0, 1), (2, 1, 2))
    assert reconcile(None, [], got) == [Plan(None, True, [], got)]


def test_what_fires_goes_on_in_its_alert() -> None:
    got = changes((5, 1, 2), (9, 2, 0), (12, 0, 1))
    assert reconcile(A, [], got) == [Plan(A, False, [], got[:2]), Plan(None, True, [], got[2:])]


def test_nothing_to_do() -> None:
    logged = [Logged(A, 1, 1, 0, 1), Logged(A, 2, 4, 1, 0)]
    assert reconcile(None, logged, changes((1, 0, 1), (4, 1, 0))) == []


def test_a_late_reading_withdraws_an_episode() -> None:
    logged = [Logged(A, 1, 1, 0, 1), Logged(A, 2, 4, 1, 0)]
    assert reconcile(None, logged, []) == [Plan(A, False, [1, 2])]


def test_merged_episodes_keep_the_oldest_alert() -> None:
    logged = [Logged(A, 1, 1, 0, 1), Logged(A, 2, 4, 1, 0), Logged(B, 1, 6, 0, 1)]
    assert reconcile(None, logged, changes((1, 0, 1))) == [Plan(B, False, [1]), Plan(A, True, [2])]


def test_a_split_leaves_the_first_part_its_alert() -> None:
    logged = [Logged(A, 1, 1, 0, 1)]
    new = changes((1, 0, 1), (3, 1, 0), (5, 0, 1))
    assert reconcile(None, logged, new) == [Plan(A, False, [], new[1:2]), Plan(None, True, [], new[2:])]


def test_a_withdrawn_alert_is_ended_before_another_opens() -> None:
    logged = [Logged(A, 1, 10, 0, 1), Logged(A, 2, 12, 1, 0)]
    plans = reconcile(None, logged, changes((20, 0, 1)))
    assert [p.alert_id for p in plans] == [A, None]


STEPS = st.lists(st.integers(0, 3), max_size=12).map(
    lambda steps: [(i, a, b) for i, (a, b) in enumerate(zip([0, *steps], steps, strict=False)) if a != b]
)


@given(STEPS, STEPS)
def test_the_log_always_becomes_the_timeline(
    before: list[tuple[int, int, int]], after: list[tuple[int, int, int]]
) -> None:
    logged = apply(None, [], reconcile(None, [], changes(*before)))
    result = apply(None, logged, reconcile(None, logged, changes(*after)))
    assert [(e.at, e.from_step, e.to_step) for e in result] == after
    episodes: dict[UUID, int] = {}
    for entry in result:
        episodes[entry.alert_id] = episodes.get(entry.alert_id, 0) + (entry.from_step == 0)
    assert all(count == 1 for count in episodes.values())
