from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.delivery.schedule import OFFSETS, Answer, next_try, plan, retry_after

NOW = datetime(2026, 10, 5, 3, 0, tzinfo=UTC)


def none() -> float:
    return 0.0


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def test_the_schedule_is_dense_in_the_first_ten_minutes_and_ends_after_three_days() -> None:
    assert sum(offset <= 600 for offset in OFFSETS) >= 10
    assert all(later - earlier <= 180 for earlier, later in pairwise(OFFSETS) if later <= 600)
    assert timedelta(days=3) <= seconds(OFFSETS[-1]) <= timedelta(days=4)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=len(OFFSETS), max_size=len(OFFSETS)))
def test_every_offset_is_used_once_whatever_the_jitter(spreads: list[float]) -> None:
    tries, now = [0.0], NOW
    source = iter(spreads)
    while (at := next_try(NOW, now, lambda: next(source))) is not None:
        assert at > now
        now = at
        tries.append((at - NOW).total_seconds())
    assert len(tries) == len(OFFSETS)
    for offset, following, actual in zip(OFFSETS, (*OFFSETS[1:], 1e9), tries, strict=True):
        assert offset <= actual < following


def test_an_extra_try_does_not_move_the_schedule() -> None:
    assert (
        next_try(NOW, NOW + seconds(8), none) == next_try(NOW, NOW + seconds(16), none) == NOW + seconds(17)
    )


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_success(status: int) -> None:
    assert plan(Answer(status), NOW, NOW, none).delivered


@pytest.mark.parametrize("status", [100, 301, 302, 307, 400, 404, 429, 500, 503])
def test_everything_else_is_tried_again(status: int) -> None:
    made = plan(Answer(status), NOW, NOW, none)
    assert not made.delivered
    assert made.next_at == NOW + max(seconds(2), seconds(0))
    assert made.error is not None
    assert str(status) in made.error


def test_410_disables() -> None:
    made = plan(Answer(410), NOW, NOW, none)
    assert made.next_at is None
    assert made.disable is not None
    assert "410" in made.disable


def test_the_endpoint_may_end_a_message_or_itself() -> None:
    aborted = plan(Answer(500, control="abort-message"), NOW, NOW, none)
    assert (aborted.delivered, aborted.next_at, aborted.disable) == (False, None, None)
    assert plan(Answer(200, control="abort-message"), NOW, NOW, none).delivered
    stopped = plan(Answer(204, control=" Disable "), NOW, NOW, none)
    assert stopped.delivered
    assert stopped.disable is not None
    assert plan(Answer(500, control="nonsense"), NOW, NOW, none).next_at is not None


@pytest.mark.parametrize("status", [429, 502, 504])
def test_throttling(status: int) -> None:
    assert plan(Answer(status), NOW, NOW, none).throttle_until == NOW + seconds(10)
    made = plan(Answer(status, retry_after="90"), NOW, NOW, none)
    assert made.throttle_until == made.next_at == NOW + seconds(90)
    assert plan(Answer(503, retry_after="90"), NOW, NOW, none).throttle_until is None


def test_the_end_of_the_schedule_is_a_failure_that_says_so() -> None:
    made = plan(Answer(error="no route"), NOW, NOW + seconds(OFFSETS[-1]), none)
    assert made.next_at is None
    assert made.error is not None
    assert made.error.startswith("no route")
    assert made.disable is None


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("99999999999999999999", 3600),
        ("9" * 5000, 3600),
        ("000000000120", 120),
        (format_datetime(NOW + seconds(42), usegmt=True), 42),
        (format_datetime(NOW - seconds(42), usegmt=True), 0),
        ("Mon, 05 Oct 2026 03:00:30 -0000", 30),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("Mon, 1 Jan 2026 00:00:00 " + "9" * 30, None),
        ("Mon, 1 Jan " + "9" * 30 + " 00:00:00 GMT", None),
    ],
)
def test_retry_after(header: str | None, wait: float | None) -> None:
    assert retry_after(header, NOW) == (None if wait is None else seconds(wait))


_DATE_WORDS = st.sampled_from(
    ["Mon,", "1", "31", "Jan", "2026", "0", "00:00:00", "99:99", "GMT", "+0000", "-2359", "-", "9" * 30]
)


@given(st.text(max_size=60) | st.lists(_DATE_WORDS, max_size=7).map(" ".join))
def test_no_retry_after_header_breaks_anything(header: str) -> None:
    wait = retry_after(header, NOW)
    assert wait is None or timedelta() <= wait <= timedelta(hours=1)


def test_a_short_retry_after_does_not_hurry_a_late_try() -> None:
    made = plan(Answer(503, retry_after="1"), NOW, NOW + timedelta(hours=1), none)
    assert made.next_at == next_try(NOW, NOW + timedelta(hours=1), none)
