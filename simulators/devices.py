"""What a scenario says of a device: which sensor, where, and how it reports."""

from __future__ import annotations

from pydantic import Field as Check

from .servers import Format
from .yamlfile import Duration, Eui, Model


class ClockSpec(Model):
    """A device's own clock: seconds it is ahead at the start, and millionths that it runs fast.

    It times the sending, and stamps what the device remembers.
    """

    offset_s: float = 0.0
    drift_ppm: float = Check(default=0.0, ge=-10_000, le=10_000)


class DeviceSpec(Model):
    """A device of a scenario. It measures at `point`, a name of the basin's: its station's code by default.

    `interval` is world time; `variables` go to the registry as they are; `noise` scales the sensor's noise.
    `river_km`, from the mouth upstream, and `depth_m` say more about where it hangs. `confirmed` frames
    are repeated until they are acknowledged, at most eight times; `datalog` values that never were are
    remembered and sent later. `battery` is the charge at the start, a share of 1; without it each device has
    its own.
    """

    dev_eui: Eui
    name: str = Check(min_length=1)
    device_type: str
    station: str
    point: str | None = None
    river_km: float = Check(default=0.0, ge=0)
    depth_m: float = Check(default=0.0, ge=0)
    interval: Duration
    network: Format
    variables: dict[str, float] = Check(default_factory=dict)
    noise: float = Check(default=1.0, ge=0)
    confirmed: bool = False
    datalog: int = Check(default=0, ge=0, le=1000)
    battery: float | None = Check(default=None, gt=0, le=1)
    clock: ClockSpec = ClockSpec()

    @property
    def place(self) -> str:
        return self.point or self.station
