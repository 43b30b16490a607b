"""The quantities Quantrac knows: key, names, unit, plausible range. Data, in catalogue.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

import msgspec


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One physical quantity with its one unit (UCUM).

    `range` is the plausible span of a working sensor, both ends included; `precision` the number of
    decimals worth showing; `cf` the CF standard name where one exists.
    """

    vi: str
    en: str
    unit: str
    range: tuple[float, float]
    precision: int
    kind: Literal["instant", "mean", "counter"] = "instant"
    cf: str | None = None


def _load() -> Mapping[str, Metric]:
    text = files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8")
    return MappingProxyType(msgspec.convert(tomllib.loads(text), dict[str, Metric]))


CATALOGUE: Mapping[str, Metric] = _load()
