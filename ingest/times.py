"""Which of a message's clocks is believed. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from telemetry.model import UplinkFlag

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
MAX_AHEAD = timedelta(minutes=5)
_SERVER_AHEAD = timedelta(days=1)
_NETWORK_TIME, _ASSIGNED_TIME = int(UplinkFlag.NETWORK_TIME), int(UplinkFlag.ASSIGNED_TIME)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)


def settle(
    time: datetime | None, ns_time: datetime | None, received_at: datetime
) -> tuple[datetime | None, int]:
    """The time a message happened at, and a flag when it is not the device's own.

    The device's or gateway's time is believed from 2000 on and up to five minutes ahead of the network
    server's (of ours, when the server gives none); else the network server's is taken, if itself
    plausible. None: no clock can be believed, and the first arrival decides (table `untimed`).
    """
    ns_time = believed_ns_time(ns_time, received_at)
    if time is not None and _plausible(time, ns_time or received_at):
        return time, 0
    if ns_time is not None:
        return ns_time, _NETWORK_TIME
    return None, _ASSIGNED_TIME


def believed_ns_time(ns_time: datetime | None, received_at: datetime) -> datetime | None:
    """The network server's time, where it lies from 2000 to a day ahead of ours."""
    return ns_time if ns_time is not None and _plausible(ns_time, received_at + _SERVER_AHEAD) else None


def own_time(time: datetime | None, ns_time: datetime | None) -> tuple[datetime | None, int]:
    """What `settle` says whenever our own clock is right: the time a redelivered message was stored under."""
    return settle(time, ns_time, _LATEST)


def _plausible(time: datetime, reference: datetime) -> bool:
    return EARLIEST <= time <= reference + MAX_AHEAD
