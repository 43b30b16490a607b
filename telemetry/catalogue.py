"""The quantities Quantrac knows: key, names, unit, plausible range. Data, in catalogue.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

import msgspec

from .checks import Checks, Gap, GrossRange, RateOfChange, StationChecks

Kind = Literal["instant", "mean", "counter", "increment"]
"""What readings are: a moment's value, a mean, a counter's state, or an amount since the one before."""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a quantity can do: change `by` so many units `within` so many seconds, and no more."""

    by: float
    within: int

    def most(self, seconds: float) -> float:
        """The largest plausible change between two readings that far apart, in the metric's unit.

        Within `within` the whole of `by` may happen at once; beyond, it may happen again and again.
        """
        return self.by * max(1.0, seconds / self.within)


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One physical quantity with its one unit (UCUM).

    `range` is the plausible span of a working sensor, both ends included, and `max_change` the most that
    two of its readings can differ; `precision` the number of decimals worth showing; `increment` of a
    counter the metric of its growth between two readings; `cf` the CF standard name and `definition` the
    address of another vocabulary's entry, each where one exists; `molar_mass` of a gas is in g/mol; `checks`
    are quality tests.
    """

    vi: str
    en: str
    unit: str
    range: tuple[float, float]
    precision: int
    kind: Kind = "instant"
    increment: str | None = None
    max_change: Change | None = None
    cf: str | None = None
    definition: str | None = None
    molar_mass: float | None = None
    checks: Checks = Checks()

    @property
    def quality_checks(self) -> Checks:
        """The quality tests of its readings anywhere: `checks`, beside what `range` and `max_change` say.

        Not of a counter's order: what its growth may be is the increments' concern.
        """
        rate = None
        if self.max_change is not None and self.kind != "counter":
            rate = RateOfChange(self.max_change.by, self.max_change.within)
        return self.checks.over(Checks(gross_range=GrossRange(self.range), rate_of_change=rate, gap=Gap()))

    @property
    def definition_url(self) -> str | None:
        """Where the quantity is defined: CF's entry on the NERC vocabulary server, else `definition`."""
        return f"http://vocab.nerc.ac.uk/standard_name/{self.cf}/" if self.cf else self.definition


def _load() -> Mapping[str, Metric]:
    text = files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8")
    return MappingProxyType(msgspec.convert(tomllib.loads(text), dict[str, Metric]))


CATALOGUE: Mapping[str, Metric] = _load()


def checks_of(metric: str, station: StationChecks | None = None) -> Checks:
    """The quality tests of a metric's readings at a station."""
    general = CATALOGUE[metric].quality_checks if metric in CATALOGUE else Checks()
    own = station.metrics.get(metric) if station is not None else None
    return general if own is None else own.over(general)
