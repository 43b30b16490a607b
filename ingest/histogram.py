"""A Prometheus histogram that takes thousands of values at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector


class BulkHistogram(Collector):
    """`Histogram.observe` for arrays: one call a batch instead of one a message.

    One thread may observe while another collects; what is collected may then lack the newest batch.
    """

    def __init__(
        self, name: str, documentation: str, bounds: Sequence[float], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = np.array([*bounds, np.inf])
        self._counts = np.zeros(len(self._bounds), np.int64)
        self._sum = 0.0
        registry.register(self)

    def observe_many(self, values: npt.NDArray[np.float64]) -> None:
        """Count the values, shape (n,); a bound includes what equals it."""
        places = np.searchsorted(self._bounds, values)
        self._counts = self._counts + np.bincount(places, minlength=len(self._bounds))
        self._sum += float(values.sum())

    def collect(self) -> Iterable[HistogramMetricFamily]:
        labels = [*(f"{bound:g}" for bound in self._bounds[:-1]), "+Inf"]
        cumulative = np.cumsum(self._counts).tolist()
        yield HistogramMetricFamily(
            self._name,
            self._documentation,
            buckets=list(zip(labels, cumulative, strict=True)),
            sum_value=self._sum,
        )
