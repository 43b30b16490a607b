"""A basin: its catchments, the river that joins them, and the world they make under given storms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from ..yamlfile import Duration, Loc, Model, Positive, unknown
from . import air, rain, river
from .field import Series
from .position import Position
from .series import Span
from .tide import tide

STEP_S = 300.0
SPIN_UP_H = 72.0
"""The world is computed from so long before its time zero, so that earlier storms have left their trace."""


def span(duration_h: float) -> Span:
    """The time over which a scenario's world is computed."""
    return Span(-SPIN_UP_H, duration_h, STEP_S / 3600.0)


class Storm(Model):
    """Rain over one catchment; hours count from the scenario's start and may be negative."""

    catchment: str
    onset_h: float = Field(ge=-SPIN_UP_H)
    duration: Duration
    depth_mm: Positive
    peak: float = Field(default=0.4, gt=0, lt=1)
    roughness: float = Field(default=0.3, ge=0, le=1)


class Catchment(Model):
    """Land that drains to one point. Its base flow stands for all that today's rain did not bring.

    Moving cells of rain fall on the disk of `radius_km` around `centre`, and on no land that has none.
    """

    area_km2: Positive
    runoff: float = Field(gt=0, le=1)
    reservoirs: int = Field(ge=1, le=10)
    storage_time: Duration
    base_m3s: float = Field(ge=0)
    centre: Position | None = None
    radius_km: Positive | None = None

    @model_validator(mode="after")
    def _whole_disk(self) -> Catchment:
        if (self.centre is None) != (self.radius_km is None):
            raise ValueError("centre and radius_km belong together")
        return self


class Inflow(Model):
    """Water from a catchment, or from a point upstream after a reach (translation, then a cascade)."""

    catchment: str | None = None
    point: str | None = None
    travel_time: Duration | None = None
    reservoirs: int = Field(default=1, ge=1, le=10)
    storage_time: Duration | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Inflow:
        if (self.catchment is None) == (self.point is None):
            raise ValueError("name either a catchment or a point upstream")
        if self.catchment is not None and (self.travel_time or self.storage_time):
            raise ValueError("travel_time and storage_time belong to a reach, not to a catchment")
        return self


class Rating(Model):
    """Q = a·(H − zero_m)^b."""

    a: Positive
    b: Positive
    zero_m: float


class Reservoir(Model):
    """S(z) = dead + (full − dead)·((z − dead_m)/(full_m − dead_m))^shape, and what is let out at z."""

    dead_m: float
    full_m: float
    dead_hm3: Positive
    full_hm3: Positive
    shape: Positive
    start_m: float
    release: list[tuple[float, float]] = Field(min_length=2)

    @model_validator(mode="after")
    def _ordered(self) -> Reservoir:
        levels = [level for level, _ in self.release]
        if levels != sorted(set(levels)):
            raise ValueError("release: levels must rise")
        if not self.dead_m < self.start_m <= self.full_m or self.dead_hm3 >= self.full_hm3:
            raise ValueError("dead_m < start_m <= full_m and dead_hm3 < full_hm3 must hold")
        return self

    def storage(self, level: float) -> float:
        """m³ held at `level`."""
        share = (level - self.dead_m) / (self.full_m - self.dead_m)
        return 1e6 * (self.dead_hm3 + (self.full_hm3 - self.dead_hm3) * math.pow(max(share, 0.0), self.shape))

    def level(self, storage: float) -> float:
        """m for `storage` in m³."""
        share = (storage / 1e6 - self.dead_hm3) / (self.full_hm3 - self.dead_hm3)
        return self.dead_m + (self.full_m - self.dead_m) * math.pow(max(share, 0.0), 1.0 / self.shape)


class Constituent(Model):
    """One harmonic of the tide; its phase is the lag of its crest after the scenario's start."""

    name: Literal["M2", "S2", "N2", "K1", "O1"]
    amplitude_m: Positive
    phase_deg: float


class Tidal(Model):
    """H = mean_m + backwater·(Q − flow_m3s) + tide: a linear backwater term, enough for one estuary gauge."""

    mean_m: float
    flow_m3s: Positive
    backwater_m_per_m3s: float = Field(ge=0)
    constituents: list[Constituent] = Field(min_length=1)


class Point(Model):
    """A place on the river, after all points it gets water from."""

    code: str
    inflows: list[Inflow] = Field(min_length=1)
    rating: Rating | None = None
    reservoir: Reservoir | None = None
    tidal: Tidal | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Point:
        if sum(kind is not None for kind in (self.rating, self.reservoir, self.tidal)) != 1:
            raise ValueError("give exactly one of rating, reservoir and tidal")
        return self


class Climate(Model):
    """The air at a place: daily mean and half range in °C, dew point, and whose rain cools it."""

    mean_c: float
    swing_c: float = Field(ge=0)
    dew_point_c: float
    catchment: str


class Basin(Model):
    """All of it; the keys of `catchments` and `climates` and the points' codes are what a device measures."""

    catchments: dict[str, Catchment]
    points: list[Point]
    climates: dict[str, Climate] = Field(default_factory=dict)

    def names(self) -> list[str]:
        """What a device can stand at: points, catchments and climates."""
        return [*(point.code for point in self.points), *self.catchments, *self.climates]

    def faults(self) -> list[tuple[Loc, str]]:
        """Names that lead nowhere, with the place where each stands."""
        found: list[tuple[Loc, str]] = []
        known: set[str] = set()
        for i, point in enumerate(self.points):
            for j, inflow in enumerate(point.inflows):
                loc = ("points", i, "inflows", j)
                if inflow.catchment is not None:
                    found += unknown((*loc, "catchment"), inflow.catchment, self.catchments)
                if inflow.point is not None:
                    found += unknown((*loc, "point"), inflow.point, known, "; points upstream come first")
            if point.code in known:
                found.append((("points", i, "code"), f"{point.code!r} is listed twice"))
            known.add(point.code)
        for name, climate in self.climates.items():
            found += unknown(("climates", name, "catchment"), climate.catchment, self.catchments)
        return found


class World:
    """What can be measured of a basin, at any world times: hours from the scenario's start, of any shape.

    Outside the computed span flows, levels and rain totals keep their first or last value, while tide and
    air go on, so a world can be watched for ever. Same basin, storms, seed and hour: same world. `falling`
    is more rain on catchments, in mm for each step of `span(duration_h)`.
    """

    def __init__(
        self,
        basin: Basin,
        storms: Sequence[Storm],
        *,
        duration_h: float,
        seed: int,
        start_hour: float = 0.0,
        falling: Mapping[str, rain.Array] = MappingProxyType({}),
    ) -> None:
        edges = span(duration_h).edges
        self._hours = edges[1:]
        self._start_hour = start_hour
        self._climates = basin.climates
        self._rain = {
            name: _rain(name, edges, storms, seed) + falling.get(name, 0.0) for name in basin.catchments
        }
        self._total = {name: np.cumsum(depths) for name, depths in self._rain.items()}
        self._flow: dict[str, rain.Array] = {}
        self._level: dict[str, rain.Array] = {}
        self._tides: dict[str, list[tuple[str, float, float]]] = {}
        runoffs = {name: self._runoff(name, catchment) for name, catchment in basin.catchments.items()}
        for point in basin.points:
            self._add(
                point, sum((self._arriving(i, runoffs) for i in point.inflows), np.zeros(len(edges) - 1))
            )

    def quantities(self, name: str) -> dict[str, Series]:
        """What is measured at the point, in the catchment and in the climate of that name, by metric."""
        found: dict[str, Series] = {}
        if name in self._level:
            found |= {"water.level": partial(self.level, name), "water.flow": partial(self.flow, name)}
        if name in self._rain:
            found |= {
                "rain.total": partial(self.rain_total, name),
                "rain.rate": partial(self.rain_rate, name),
            }
        if name in self._climates:
            found |= {
                "air.temperature": lambda t_h: self.air(name, t_h)[0],
                "air.humidity": lambda t_h: self.air(name, t_h)[1],
            }
        return found

    def level(self, point: str, t_h: rain.Array) -> rain.Array:
        """Water level in m above the point's datum."""
        level = np.interp(t_h, self._hours, self._level[point])
        return level + tide(t_h, self._tides[point]) if point in self._tides else level

    def flow(self, point: str, t_h: rain.Array) -> rain.Array:
        """Discharge in m³/s; below a reservoir, what it lets out."""
        return np.interp(t_h, self._hours, self._flow[point])

    def rain_total(self, catchment: str, t_h: rain.Array) -> rain.Array:
        """mm fallen since the world began, `SPIN_UP_H` before the start."""
        return np.interp(t_h, self._hours, self._total[catchment], left=0.0)

    def rain_rate(self, catchment: str, t_h: rain.Array) -> rain.Array:
        """mm/h."""
        depth = np.interp(t_h, self._hours, self._rain[catchment], left=0.0, right=0.0)
        return depth * (3600.0 / STEP_S)

    def air(self, place: str, t_h: rain.Array) -> tuple[rain.Array, rain.Array]:
        """Temperature in °C and relative humidity in % at one of the basin's climates."""
        climate = self._climates[place]
        celsius = air.temperature(
            self._start_hour + t_h,
            mean=climate.mean_c,
            swing=climate.swing_c,
            rain_mm_h=self.rain_rate(climate.catchment, t_h),
        )
        return celsius, air.relative_humidity(celsius, climate.dew_point_c)

    def _runoff(self, name: str, catchment: Catchment) -> rain.Array:
        direct = river.runoff(self._rain[name], catchment.area_km2, catchment.runoff, STEP_S)
        routed = river.nash(direct, STEP_S, n=catchment.reservoirs, k=catchment.storage_time)
        return routed.outflow + catchment.base_m3s

    def _arriving(self, inflow: Inflow, runoffs: dict[str, rain.Array]) -> rain.Array:
        if inflow.catchment is not None:
            return runoffs[inflow.catchment]
        assert inflow.point is not None
        flow = river.delay(self._flow[inflow.point], STEP_S, inflow.travel_time or 0.0)
        if inflow.storage_time is None:
            return flow
        return river.nash(flow, STEP_S, n=inflow.reservoirs, k=inflow.storage_time).outflow

    def _add(self, point: Point, inflow: rain.Array) -> None:
        self._flow[point.code] = inflow
        if point.rating is not None:
            r = point.rating
            self._level[point.code] = river.stage(inflow, a=r.a, b=r.b, zero_m=r.zero_m)
        elif point.reservoir is not None:
            lake = point.reservoir
            routed = river.pool(
                inflow,
                STEP_S,
                start=lake.storage(lake.start_m),
                level=lake.level,
                release=river.piecewise(lake.release),
            )
            self._flow[point.code] = routed.outflow
            self._level[point.code] = np.array([lake.level(s) for s in routed.storage.tolist()])
        elif point.tidal is not None:
            t = point.tidal
            self._level[point.code] = t.mean_m + t.backwater_m_per_m3s * (inflow - t.flow_m3s)
            self._tides[point.code] = [(c.name, c.amplitude_m, c.phase_deg) for c in t.constituents]


def _rain(catchment: str, edges: rain.Array, storms: Sequence[Storm], seed: int) -> rain.Array:
    total = np.zeros(len(edges) - 1)
    for index, storm in enumerate(storms):
        if storm.catchment == catchment:
            total += rain.storm_depths(
                edges,
                onset_h=storm.onset_h,
                duration_h=storm.duration / 3600.0,
                depth_mm=storm.depth_mm,
                peak=storm.peak,
                roughness=storm.roughness,
                rng=np.random.Generator(np.random.PCG64([seed, index])),
            )
    return total
