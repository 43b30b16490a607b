"""A run as it really goes, minute by minute: what answer sheets are worked out from."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from .devices import DeviceSpec
from .scenario import Scenario
from .traffic import Timeline
from .truths import Happening
from .world.field import Series
from .world.rain import Array
from .world.scene import Scene

_STEP_S = 60.0


class Course:
    """A scenario in its world. `times` (n,) are world seconds, every minute from its start to its end."""

    def __init__(self, scenario: Scenario, scene: Scene, timeline: Timeline) -> None:
        self.scenario = scenario
        self.timeline = timeline
        self.times: Array = np.arange(0.0, scenario.duration + 1e-3, _STEP_S)
        self.hours: Array = self.times / 3600.0
        self._scene = scene

    def truth(self, device: DeviceSpec, metric: str) -> Series | None:
        """What the device should say, over world hours; None where that cannot be measured in this world."""
        try:
            return self._scene.series(metric, self.scenario.spot(device))
        except KeyError:
            return None

    def when(self, at: float | None) -> datetime | None:
        """What the messages of that world second carry."""
        return None if at is None else self.timeline.when(at)

    def bounds(self, happening: Happening) -> tuple[datetime, datetime | None]:
        """Begin and end; None for an end that the run does not see."""
        begin, end = happening.span
        return self.timeline.when(begin), self.when(end if end < self.scenario.duration else None)
