"""Quality tests that need one reading alone. Pure."""

from __future__ import annotations

from telemetry.catalogue import CATALOGUE
from telemetry.model import Quality


def gross_range(metric: str, value: float) -> Quality:
    """QARTOD's gross range test against the catalogue: fail outside the plausible range, else good."""
    low, high = CATALOGUE[metric].range
    return Quality.GOOD if low <= value <= high else Quality.FAIL
