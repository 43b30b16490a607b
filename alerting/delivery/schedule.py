"""When to try again. Pure: what an answer means, and at which moment the next try is due.

The schedule counts from the first try, not from the number of tries: a try that a newer transition or another
delivery's success called for is an extra one and shortens nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import accumulate, pairwise

# Seconds from one try to the next: dense in the first ten minutes, when an alert matters most, then the pace
# of the specification's example; 77 hours in all.
DELAYS = (
    *(0, 2, 5, 10, 20, 40, 60, 60, 90, 120, 180, 300),
    *(900, 1800, 3600, 7200, 18000, 36000, 50400, 72000, 86400),
)
OFFSETS = tuple(accumulate(DELAYS))
SPREAD = 0.1  # a try may come this share of its delay later, so that subscribers are not hit in step
RETRY_AFTER_MOST = timedelta(hours=1)
THROTTLE = timedelta(seconds=10)
_THROTTLING = frozenset({429, 502, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try: a `status`, or an `error` when there was none.

    `text` is the beginning of the body; `retry_after` and `control` are the headers ``retry-after`` and
    ``webhook-delivery``.
    """

    status: int | None = None
    error: str | None = None
    text: str | None = None
    retry_after: str | None = None
    control: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an answer leads to.

    `next_at` is the time of the next try, None when there is none: delivered, given up, or the endpoint
    is to be disabled (`disable` says why). Until `throttle_until` the endpoint should get nothing at all.
    """

    delivered: bool
    error: str | None = None
    next_at: datetime | None = None
    disable: str | None = None
    throttle_until: datetime | None = None


def plan(answer: Answer, first: datetime, now: datetime, spread: Callable[[], float]) -> Plan:
    """What to do after `answer`, given the time of the delivery's `first` try.

    `spread` returns random numbers in [0, 1). Only 2xx is a success. 410 or ``webhook-delivery: disable``
    disables the endpoint, ``webhook-delivery: abort-message`` ends the tries of this message
    (https://docs.svix.com/receiving/delivery-control); 429, 502 and 504 slow the whole endpoint down.
    """
    control = (answer.control or "").strip().lower()
    delivered = answer.status is not None and 200 <= answer.status < 300
    disable = "the endpoint asked for it (webhook-delivery: disable)" if control == "disable" else None
    if delivered:
        return Plan(True, disable=disable)
    error = _reason(answer)
    if answer.status == 410:
        disable = "the endpoint answered 410 Gone"
    if disable is not None:
        return Plan(False, error, disable=disable)
    if control == "abort-message":
        return Plan(False, f"{error}; the endpoint asked for no more (webhook-delivery: abort-message)")
    wait = retry_after(answer.retry_after, now)
    planned = next_try(first, now, spread)
    if planned is None:
        return Plan(False, f"{error}; the last try of {OFFSETS[-1] // 3600} hours")
    throttle = now + (wait or THROTTLE) if answer.status in _THROTTLING else None
    return Plan(False, error, max(planned, now + (wait or timedelta())), throttle_until=throttle)


def next_try(first: datetime, now: datetime, spread: Callable[[], float]) -> datetime | None:
    """The next moment of the schedule that began at `first`, later than `now`; None at its end."""
    age = (now - first).total_seconds()
    for before, offset in pairwise(OFFSETS):
        if offset > age:
            return first + timedelta(seconds=offset + SPREAD * (offset - before) * spread())
    return None


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """The wait that ``Retry-After`` asks for (RFC 9110 §10.2.3: seconds or an HTTP date), at most an hour.

    None when there is no such header or nobody could know what it means.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        wait = timedelta(seconds=min(float(text), RETRY_AFTER_MOST.total_seconds()))
    else:
        try:
            until = parsedate_to_datetime(text)
        except (ValueError, OverflowError):  # the latter for a year or an offset without end
            return None
        wait = (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
    return min(max(wait, timedelta()), RETRY_AFTER_MOST)


def _reason(answer: Answer) -> str:
    if answer.status is None:
        return answer.error or "no answer"
    if 300 <= answer.status < 400:
        return f"answered {answer.status}: redirects are not followed, register the final address"
    return f"answered {answer.status}"
