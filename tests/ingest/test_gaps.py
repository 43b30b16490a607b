"""What happened to a connection, as gaps."""

from __future__ import annotations

from datetime import datetime, timedelta

from ingest.gaps import MOST_KEPT, GapLog

from .store import NOW


def at(second: float) -> datetime:
    return NOW + timedelta(seconds=second)


def shown(log: GapLog, now: float = 1e6) -> list[tuple[float, float, str, bool]]:
    return [
        ((gap.began_at - NOW).total_seconds(), (gap.ended_at - NOW).total_seconds(), gap.why, gap.over)
        for gap, _ in log.snapshot(at(now))
    ]


def commit(log: GapLog, now: float) -> bool:
    snapshot = log.snapshot(at(now))
    return log.written(snapshot, [gap.id or n for n, (gap, _) in enumerate(snapshot)])


def test_the_first_subscription_ever_ends_no_gap() -> None:
    log = GapLog()
    log.subscribed(at(0), session_present=False)
    assert shown(log) == []


def test_a_restart_is_a_gap_whenever_the_row_is_read() -> None:
    early, late = GapLog(), GapLog()
    early.resume(at(0), had_session=True)
    early.subscribed(at(9), session_present=True)
    late.subscribed(at(9), session_present=True)
    late.resume(at(0), had_session=True)
    assert shown(early) == shown(late) == [(0, 9, "service", True)]


def test_a_session_that_was_forgotten_says_so() -> None:
    for row_first in (True, False):
        log = GapLog()
        if row_first:
            log.resume(at(0), had_session=True)
        log.subscribed(at(9), session_present=False)
        if not row_first:
            log.resume(at(0), had_session=True)
        log.lost(at(20))
        log.subscribed(at(30), session_present=False)
        assert shown(log) == [(0, 9, "session", True), (20, 30, "session", True)]


def test_after_leaving_there_is_no_session_to_forget() -> None:
    log = GapLog()
    log.resume(at(0), had_session=False)
    log.subscribed(at(9), session_present=False)
    assert shown(log) == [(0, 9, "service", True)]


def test_a_broker_away_is_one_gap_however_often_it_is_lost() -> None:
    log = GapLog()
    log.subscribed(at(0), session_present=False)
    for second in (5, 6, 7):
        log.lost(at(second))
    assert shown(log, now=8) == [(5, 8, "broker", False)]
    log.subscribed(at(10), session_present=True)
    assert shown(log) == [(5, 10, "broker", True)]


def test_losing_what_one_never_had_is_none() -> None:
    log = GapLog()
    log.lost(at(5))
    assert shown(log) == []


def test_what_is_written_is_forgotten_only_once_it_is_over() -> None:
    log = GapLog()
    log.subscribed(at(0), session_present=False)
    log.lost(at(5))
    assert not commit(log, 8)
    snapshot = log.snapshot(at(9))
    log.subscribed(at(10), session_present=True)  # while the snapshot is being written
    assert not log.written(snapshot, [7])
    assert shown(log) == [(5, 10, "broker", True)]
    assert [gap.id for gap, _ in log.snapshot(at(11))] == [7]
    assert commit(log, 11)
    assert shown(log) == []


def test_a_clock_that_steps_back_gives_no_gap_that_ends_before_it_begins() -> None:
    log = GapLog()
    log.subscribed(at(0), session_present=False)
    log.lost(at(10))
    log.subscribed(at(-3600), session_present=True)
    assert shown(log) == [(10, 10, "broker", True)]


def test_many_gaps_that_cannot_be_written_take_bounded_memory() -> None:
    log = GapLog()
    log.subscribed(at(0), session_present=False)
    for n in range(1, 3 * MOST_KEPT):
        log.lost(at(10 * n))
        log.subscribed(at(10 * n + 5), session_present=n != 3)
    gaps = shown(log)
    assert len(gaps) == MOST_KEPT
    assert gaps[0][:3] == (10, 10 * (2 * MOST_KEPT) + 5, "session")
    assert gaps[-1][1] == 10 * (3 * MOST_KEPT - 1) + 5
