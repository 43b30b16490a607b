"""Whether a station's quality tests leave its alarm thresholds in reach: what fails raises no alert. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .catalogue import CATALOGUE, checks_of
from .checks import Check, GrossRange, StationChecks

_Thresholds = Mapping[str, Sequence[Mapping[str, Any]]]
"""By metric its levels, each with `level` and `value`, checked."""
_FAILING = (Check.SPIKE, Check.FLAT_LINE, Check.ATTENUATED)


def unreachable(checks: StationChecks, thresholds: _Thresholds) -> list[str]:
    """Thresholds that no good reading can reach, one sentence each, beginning with the field in `checks`."""
    return [
        f"metrics.{metric}.gross_range.fail: [{gross.fail[0]:g}, {gross.fail[1]:g}] leaves out the threshold"
        f" of level {step['level']} at {step['value']:g}: what lies there would fail and raise no alert;"
        " widen it to what the sensor can measure, and doubt the rest with `suspect`"
        for metric, levels in _judged(checks, thresholds)
        if (gross := _gross_range(checks, metric)) is not None
        for step in levels
        if not gross.fail[0] <= step["value"] <= gross.fail[1]
    ]


def hushing(checks: StationChecks, thresholds: _Thresholds) -> list[str]:
    """Tests that may silence an alarm: a sentence each, beginning with the field in `checks`."""
    return [
        f"metrics.{metric}.{check.word}.fail: a reading that fails raises no alert, and this metric has"
        " thresholds; with `suspect` alone none is missed"
        for metric, levels in _judged(checks, thresholds)
        for check in _FAILING
        if levels and getattr(checks.metrics[metric].get(check), "fail", None) is not None
    ]


def _gross_range(checks: StationChecks, metric: str) -> GrossRange | None:
    found: GrossRange | None = checks_of(metric, checks).get(Check.GROSS_RANGE)
    return found


def _judged(
    checks: StationChecks, thresholds: _Thresholds
) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """The metrics with checks of the station's own, and their thresholds."""
    return (
        (metric, levels)
        for metric, levels in thresholds.items()
        if metric in CATALOGUE and metric in checks.metrics
    )
