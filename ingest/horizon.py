"""How far back anything is stored: what would be removed again is not taken in. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from telemetry.clock import Clock, from_micros, micros
from telemetry.model import Event, RawMessage, Reject, Uplink, message_key
from telemetry.settings import StoreSettings

from .pipeline import Decoded

TOO_OLD = "too_old"


class Horizon(NamedTuple):
    """At `now`, frames and readings of so many days are kept; 0: for ever."""

    now: datetime
    frames_days: int = 0
    readings_days: int = 0

    @property
    def frames(self) -> datetime | None:
        """Messages from before would be stored again each time they come: nothing remembers them."""
        return self.now - timedelta(days=self.frames_days) if self.frames_days else None

    @property
    def readings(self) -> datetime | None:
        return self.now - timedelta(days=self.readings_days) if self.readings_days else None

    def passed(self, times: Sequence[tuple[datetime, int]]) -> list[int]:
        """Which of these moments lie before what is kept of frames."""
        if (since := self.frames) is None:
            return []
        return [n for n, (time, _) in enumerate(times) if time < since]

    def reject(self, message: RawMessage, outcome: Uplink | Event, time: datetime) -> Reject:
        return Reject(
            key=message_key(message),
            reason=TOO_OLD,
            detail=f"it is of {time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z, and frames are kept for "
            f"{self.frames_days} days (QUANTRAC_RETAIN_FRAMES)",
            field="time",
            dev_eui=outcome.dev_eui,
            network=outcome.network,
        )

    def kept(self, time: int, decoded: Decoded) -> Decoded:
        """Without the readings that are older than is kept; `time` is the frame's, in µs since 1970."""
        if (since := self.readings) is None:
            return decoded
        values = decoded.values if time >= micros(since) else []
        logged = [one for one in decoded.logged if one.time >= since]
        left_out = len(decoded.values) - len(values) + len(decoded.logged) - len(logged)
        if not left_out:
            return decoded
        told = f"{left_out} readings older than {self.readings_days} days not kept (QUANTRAC_RETAIN_READINGS)"
        problem = f"{decoded.problem}; {told}" if decoded.problem else told
        return decoded._replace(values=values, logged=logged, problem=problem)


EVER = Horizon(from_micros(0))


def no_horizon() -> Horizon:
    return EVER


def horizon_of(store: StoreSettings, clock: Clock) -> Callable[[], Horizon]:
    """Asked again whenever something is stored: it moves with the clock."""
    frames, readings = store.retain_frames, store.retain_readings
    if not frames and not readings:
        return no_horizon
    return lambda: Horizon(clock.now(), frames, readings)
