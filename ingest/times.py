"""Which of a message's clocks is believed. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from telemetry.model import UplinkFlag

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
MAX_AHEAD = timedelta(minutes=5)


def settle(
    time: datetime | None, ns_time: datetime | None, received_at: datetime
) -> tuple[datetime | None, UplinkFlag]:
    """The time a message happened at, and a flag when it is not the device's own.

    The device's or gateway's time is believed from 2000 on and up to five minutes ahead of the network
    server's (of ours, when the server gives none); else the network server's is taken, if itself
    plausible. None: no clock can be believed, and the first arrival decides (table `untimed`).
    """
    if ns_time is not None and not _plausible(ns_time, received_at + timedelta(days=1)):
        ns_time = None
    if time is not None and _plausible(time, ns_time or received_at):
        return time, UplinkFlag(0)
    if ns_time is not None:
        return ns_time, UplinkFlag.NETWORK_TIME
    return None, UplinkFlag.ASSIGNED_TIME


def _plausible(time: datetime, reference: datetime) -> bool:
    return EARLIEST <= time <= reference + MAX_AHEAD
