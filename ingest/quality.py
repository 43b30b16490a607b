"""Quality tests that need one reading alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from telemetry.catalogue import CATALOGUE
from telemetry.model import Quality


class GrossRange:
    """QARTOD's gross range test against the catalogue: fail outside the plausible range, else good."""

    def __init__(self, metric_ids: Mapping[str, int]) -> None:
        size = max(metric_ids.values(), default=0) + 1
        self._low, self._high = np.full(size, -np.inf), np.full(size, np.inf)
        for metric, number in metric_ids.items():
            if metric in CATALOGUE:
                self._low[number], self._high[number] = CATALOGUE[metric].range

    def __call__(
        self, metric_id: npt.NDArray[np.int16], value: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int16]:
        """The flag of each value, all of shape (n,)."""
        plausible = (self._low[metric_id] <= value) & (value <= self._high[metric_id])
        return np.where(plausible, np.int16(Quality.GOOD), np.int16(Quality.FAIL))
