"""All that can be measured in a scenario: its basin, and the fields of its `world:`, joined to one world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from .air_quality import USUAL, City, Haze
from .basin import Basin, Storm, World, span
from .cells import RainCells, Spell, born
from .current import Current
from .discharge import Discharge, Reach, Release
from .field import ORIGIN, Field, Place, Series, constant, together
from .fire_weather import DrySeason, FireWeather
from .plume import Fire
from .position import Position
from .rain import Array
from .salinity import Estuary
from .sky import Sky
from .slope import Slope
from .soil import Soil, SoilType
from .spec import CitySpec, Fed, SpellSpec, Wetted, WorldSpec
from .water_quality import WaterBody, oxygen_saturation
from .wind import Wind, WindClimate

_RINGS_A_CELL = 2.0
_LEAST_RINGS = 12


class Spot(NamedTuple):
    """Where a device measures: `point` is a name of the basin's, or its station's code."""

    point: str
    place: Place


class Scene:
    """The basin's quantities at its points, and the fields everywhere else."""

    def __init__(self, world: World, fields: Mapping[str, Field]) -> None:
        self.world = world
        self._fields = fields

    def metrics(self, point: str) -> frozenset[str]:
        """What can be measured there."""
        return frozenset(self.world.quantities(point)) | frozenset(self._fields)

    def series(self, metric: str, spot: Spot) -> Series:
        """That metric there over world hours, in its unit of the catalogue: the basin's own before a field's.

        Raises:
            KeyError: nothing of the kind can be measured there.
        """
        own = self.world.quantities(spot.point)
        return own[metric] if metric in own else partial(self._fields[metric].at, spot.place)


def make_scene(
    spec: WorldSpec | None,
    basin: Basin,
    storms: Sequence[Storm],
    *,
    duration_h: float,
    seed: int,
    start_hour: float = 0.0,
) -> Scene:
    """The scene of a checked `spec` (`WorldSpec.faults`), which begins at `start_hour` of the local day."""
    make_world = partial(World, basin, storms, duration_h=duration_h, seed=seed, start_hour=start_hour)
    if spec is None:
        return Scene(make_world(), {})
    spells = [_spell(spell, spec.origin) for spell in spec.rain]
    sky = RainCells(born(spells, seed=seed), span(duration_h))
    world = make_world(falling=_on_catchments(sky, spells, basin, spec.origin))
    maker = _Maker(spec, world, sky, duration_h=duration_h, seed=seed, start_hour=start_hour)
    fields = dict(together(maker.fields()))
    return Scene(world, fields | {field.name: field for field in _derived(fields)})


class _Maker:
    """Makes the fields, each with those that it depends on."""

    def __init__(
        self,
        spec: WorldSpec,
        world: World,
        sky: RainCells,
        *,
        duration_h: float,
        seed: int,
        start_hour: float,
    ) -> None:
        self._spec = spec
        self._world = world
        self._cells = sky
        self._span = span(duration_h)
        self._seed = seed
        self._start_hour = start_hour

    def fields(self) -> Iterator[Field]:
        if self._spec.rain:
            yield from self._cells.fields()
        yield from self._sky()
        yield from self._air()
        yield from self._ground()
        yield from self._water()

    def _air(self) -> Iterator[Field]:
        spec, hour = self._spec, self._start_hour
        if spec.wind is None:
            return
        wind = Wind(WindClimate(**spec.wind.given()), seed=self._seed, start_hour=hour)
        yield from wind.fields()
        if spec.city is not None:
            city = self._city(spec.city, wind)
            yield from city.fields()
            for fire in spec.fires:
                place = self._place(fire.at)
                given = fire.given("at")
                burning = Fire(
                    wind.speed, wind.direction, city.mixing_height, place=place, start_hour=hour, **given
                )
                yield from burning.fields()
        if (season := spec.fire_weather) is not None:
            yield from FireWeather(
                DrySeason(**season.given("catchment", "at")),
                self._span,
                wind_ms=wind.speed,
                rain_mm_h=self._rain_on(season),
                seed=self._seed,
                start_hour=hour,
            ).fields()

    def _city(self, spec: CitySpec, wind: Wind) -> City:
        hazes = [Haze(**haze.given()) for haze in self._spec.haze]
        return City(
            wind.speed,
            rain_mm_h=self._rain_on(spec),
            haze=lambda t_h: sum((haze(t_h) for haze in hazes), np.zeros(np.shape(t_h))),
            pollutants={name: replace(p, emission=spec.emissions * p.emission) for name, p in USUAL.items()},
            start_hour=self._start_hour,
            **spec.given("catchment", "at", "emissions"),
        )

    def _sky(self) -> Iterator[Field]:
        if (spec := self._spec.sky) is not None:
            given = spec.given("catchment", "at")
            yield from Sky(self._rain_on(spec), start_hour=self._start_hour, **given).fields()

    def _ground(self) -> Iterator[Field]:
        spec = self._spec
        if spec.soil is None:
            return
        given = spec.soil.given("catchment", "at")
        if spec.soil.soil is not None:
            given["soil"] = SoilType(**spec.soil.soil.given())
        soil = Soil(self._rain_on(spec.soil), self._span, start_hour=self._start_hour, **given)
        yield from soil.fields()
        if spec.slope is not None:
            yield from Slope(soil.wetness, self._span, **spec.slope.given()).fields()

    def _water(self) -> Iterator[Field]:
        spec = self._spec
        if spec.water is not None:
            given = spec.water.given("point", "flow_m3s")
            yield from WaterBody(self._flow_of(spec.water), start_hour=self._start_hour, **given).fields()
        if spec.current is None:
            return
        harmonics = tuple((h.name, h.speed_ms, h.phase_deg) for h in spec.current.harmonics)
        current = Current(spec.current.seaward_ms, harmonics)
        if spec.discharge is not None:
            releases = [Release(**release.given()) for release in spec.discharge.releases]
            reach = Reach(current, **spec.discharge.given("releases"))
            yield from Discharge(reach, releases).fields()
        if spec.estuary is not None:
            flow = self._span.follow(self._flow_of(spec.estuary), spec.estuary.memory_h)
            given = spec.estuary.given("point", "flow_m3s", "memory_h")
            yield from Estuary(flow, current, **given).fields()

    def _rain_on(self, wetted: Wetted) -> Series:
        if wetted.catchment is not None:
            return partial(self._world.rain_rate, wetted.catchment)
        rate, _ = self._cells.fields()
        return partial(rate.at, self._place(wetted.at))

    def _flow_of(self, fed: Fed) -> Series:
        if fed.point is not None:
            return partial(self._world.flow, fed.point)
        assert fed.flow_m3s is not None
        return constant(fed.flow_m3s)

    def _place(self, at: Position | None) -> Place:
        return ORIGIN if at is None else self._spec.origin.place(at.latitude, at.longitude)


def _derived(fields: Mapping[str, Field]) -> Iterator[Field]:
    """What follows from other fields once their parts are added up."""
    oxygen, celsius = fields.get("water.dissolved_oxygen"), fields.get("water.temperature")
    salinity = fields.get("water.salinity")
    if oxygen is None or celsius is None:
        return

    def saturation(place: Place, t_h: Array) -> Array:
        salt = 0.0 if salinity is None else salinity.at(place, t_h)
        return 100.0 * oxygen.at(place, t_h) / oxygen_saturation(celsius.at(place, t_h), salt)

    yield Field("water.oxygen_saturation", saturation)


def _spell(spec: SpellSpec, origin: Position) -> Spell:
    around = spec.around or origin
    return Spell(**spec.given("around"), around=origin.place(around.latitude, around.longitude))


def _on_catchments(
    sky: RainCells, spells: Sequence[Spell], basin: Basin, origin: Position
) -> dict[str, Array]:
    """mm of the cells on each catchment that has a place, in each step."""
    if not spells:
        return {}
    smallest = min(spell.radius_km for spell in spells)
    falling = {}
    for name, land in basin.catchments.items():
        if land.centre is not None and land.radius_km is not None:
            rings = max(_LEAST_RINGS, round(_RINGS_A_CELL * land.radius_km / smallest))
            centre = origin.place(land.centre.latitude, land.centre.longitude)
            falling[name] = sky.depths(centre, land.radius_km, rings=rings)
    return falling
