"""The `world:` of a scenario as its file has it: what there is to measure besides the basin's rivers.

Each model's keys are the parameters of what `scene` makes of it; one that the file leaves out keeps that
parameter's default.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..yamlfile import Hours, Loc, Model, Positive, unknown
from .basin import SPIN_UP_H, Basin
from .position import Position
from .soil import CLAY_LOAM

NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Degrees = Annotated[float, Field(ge=0, le=360)]
Onset = Annotated[float, Field(ge=-SPIN_UP_H)]


class _Part(Model):
    """Something of the world; `given` are the arguments for what is made of it."""

    def given(self, *but: str) -> dict[str, Any]:
        """What the file says, by parameter, without the names in `but`."""
        named = ((name, getattr(self, name)) for name in sorted(self.model_fields_set - set(but)))
        return {name: value for name, value in named if value is not None}


class Wetted(_Part):
    """Whose rain falls on it: a catchment's, else that of the cells above `at`, else above the origin."""

    catchment: str | None = None
    at: Position | None = None

    @model_validator(mode="after")
    def _one_rain(self) -> Wetted:
        if self.catchment is not None and self.at is not None:
            raise ValueError("name either the catchment whose rain falls here, or the place under the cells")
        return self


class Fed(_Part):
    """Which water flows there: a point's of the basin, or always as much."""

    point: str | None = None
    flow_m3s: Positive | None = None

    @model_validator(mode="after")
    def _one_flow(self) -> Fed:
        if (self.point is None) == (self.flow_m3s is None):
            raise ValueError("name either a point of the basin or flow_m3s")
        return self


class WindSpec(_Part):
    """`wind.WindClimate`."""

    mean_ms: Positive | None = None
    shape: Positive | None = None
    afternoon: Annotated[float, Field(ge=0, lt=1)] | None = None
    from_deg: Degrees | None = None
    turn_deg: float | None = None
    spread_deg: NotNegative | None = None
    roughness_m: Annotated[float, Field(gt=0, lt=5)] | None = None
    memory_h: Hours | None = Field(default=None, alias="memory")


class SpellSpec(_Part):
    """`cells.Spell`."""

    onset_h: Onset
    duration_h: Hours = Field(alias="duration")
    births_per_h: Positive
    depth_mm: Positive
    radius_km: Positive | None = None
    life_h: Hours | None = Field(default=None, alias="life")
    drift_east_kmh: float | None = None
    drift_north_kmh: float | None = None
    around: Position | None = None
    within_km: Positive | None = None


class CitySpec(Wetted):
    """`air_quality.City`; `emissions` is how much it emits beside a big city."""

    emissions: NotNegative = 1.0
    box_km: Positive | None = None
    night_m: Positive | None = None
    day_m: Positive | None = None
    ozone_ppb: NotNegative | None = None
    photochemical_ppb: NotNegative | None = None


class HazeSpec(_Part):
    """`air_quality.Haze`."""

    onset_h: Onset
    duration_h: Hours = Field(alias="duration")
    pm2_5: Positive
    ramp_h: Hours | None = Field(default=None, alias="ramp")


class FireSpec(_Part):
    """`plume.Fire`."""

    at: Position
    onset_h: Onset
    duration_h: Hours = Field(alias="duration")
    peak_kg_s: Positive
    height_m: Positive | None = None


class FireWeatherSpec(Wetted):
    """`fire_weather.DrySeason`."""

    mean_c: float | None = None
    swing_c: NotNegative | None = None
    dew_point_c: float | None = None
    drying_c_day: float | None = None
    scatter_c: NotNegative | None = None
    fuel_memory_h: Hours | None = Field(default=None, alias="fuel_memory")


class SkySpec(Wetted):
    """`sky.Sky`."""

    cover: Share | None = None
    mean_hpa: Annotated[float, Field(ge=500, le=1100)] | None = None


class SoilTypeSpec(_Part):
    """`soil.SoilType`."""

    full: Annotated[float, Field(gt=0, lt=1)]
    field_capacity: Share
    wilting: Share
    conductivity_mm_h: Positive
    entry_kpa: Annotated[float, Field(lt=0)]
    b: Positive

    @model_validator(mode="after")
    def _ordered(self) -> SoilTypeSpec:
        if not self.wilting < self.field_capacity < self.full:
            raise ValueError("wilting < field_capacity < full must hold")
        return self


class SoilSpec(Wetted):
    """`soil.Soil`."""

    soil: SoilTypeSpec | None = Field(default=None, alias="type")
    layers_m: Annotated[list[Positive], Field(min_length=1)] | None = None
    start: Annotated[float, Field(gt=0, lt=1)] | None = None
    evaporation_mm_day: NotNegative | None = None
    leak: Share | None = None
    slope_deg: Annotated[float, Field(ge=0, lt=90)] | None = None

    @model_validator(mode="after")
    def _room(self) -> SoilSpec:
        full = CLAY_LOAM.full if self.soil is None else self.soil.full
        if self.start is not None and self.start > full:
            raise ValueError(f"start: more water than {full}, which the soil holds when it is full")
        return self


class SlopeSpec(_Part):
    """`slope.Slope`."""

    critical: Annotated[float, Field(ge=0, lt=1)] | None = None
    onset_mm_h: Annotated[float, Field(gt=0, lt=1000)] | None = None
    hours_to_failure: Hours | None = Field(default=None, alias="time_to_failure")
    rest_mm_h: NotNegative | None = None
    runout_mm: NotNegative | None = None
    depth_m: Positive | None = None


class WaterSpec(Fed):
    """`water_quality.WaterBody`."""

    air_mean_c: float | None = None
    air_swing_c: NotNegative | None = None
    depth_m: Positive | None = None
    exchange_w_m2k: Positive | None = None
    reaeration: Positive | None = None
    production: NotNegative | None = None
    respiration: NotNegative | None = None
    mean_ph: Annotated[float, Field(ge=4, le=10)] | None = None
    ph_swing: NotNegative | None = None
    turbidity_at_one: Positive | None = None
    turbidity_power: NotNegative | None = None
    usual_flow_m3s: Positive | None = None
    usual_conductivity: Positive | None = None
    dilution_power: NotNegative | None = None
    rain_conductivity: NotNegative | None = None


class HarmonicSpec(_Part):
    """One of the tide's currents; its phase is the lag of its strongest flood after the start."""

    name: Literal["M2", "S2", "N2", "K1", "O1"]
    speed_ms: Positive
    phase_deg: float


class CurrentSpec(_Part):
    """`current.Current`."""

    seaward_ms: NotNegative
    harmonics: list[HarmonicSpec] = Field(default_factory=list)


class ReleaseSpec(_Part):
    """`discharge.Release`."""

    onset_h: Onset
    duration_h: Hours = Field(alias="duration")
    ammonium_kg: NotNegative | None = None
    cod_kg: NotNegative | None = None
    salt_kg: NotNegative | None = None


class DischargeSpec(_Part):
    """`discharge.Reach`, and its releases."""

    section_m2: Positive
    outfall_km: NotNegative
    dispersion_m2s: Positive | None = None
    outfall_width_km: Positive | None = None
    nitrification: NotNegative | None = None
    decay: NotNegative | None = None
    degradable: Share | None = None
    reaeration: Positive | None = None
    releases: list[ReleaseSpec] = Field(min_length=1)


class EstuarySpec(Fed):
    """`salinity.Estuary`; `memory` is how slowly its salt follows the flow."""

    memory_h: Hours = Field(default=240.0, alias="memory")
    sea_g_l: Positive | None = None
    river_g_l: NotNegative | None = None
    convergence_km: Positive | None = None
    mouth_m2: Positive | None = None
    burgh: Annotated[float, Field(gt=0, le=1)] | None = None
    dispersion_m2s: Positive | None = None
    usual_flow_m3s: Positive | None = None


class WorldSpec(Model):
    """All of it. `origin` is the zero of the kilometres east and north that places are counted in."""

    origin: Position
    wind: WindSpec | None = None
    rain: list[SpellSpec] = Field(default_factory=list)
    city: CitySpec | None = None
    haze: list[HazeSpec] = Field(default_factory=list)
    fires: list[FireSpec] = Field(default_factory=list)
    fire_weather: FireWeatherSpec | None = None
    sky: SkySpec | None = None
    soil: SoilSpec | None = None
    slope: SlopeSpec | None = None
    water: WaterSpec | None = None
    current: CurrentSpec | None = None
    discharge: DischargeSpec | None = None
    estuary: EstuarySpec | None = None

    def begins(self) -> Iterator[tuple[Loc, float]]:
        """Where each of its happenings says the hour at which it begins."""
        for name in ("rain", "haze", "fires"):
            for i, part in enumerate(getattr(self, name)):
                yield (name, i, "onset_h"), part.onset_h
        for i, release in enumerate(self.discharge.releases if self.discharge else ()):
            yield ("discharge", "releases", i, "onset_h"), release.onset_h

    def faults(self, basin: Basin) -> Iterator[tuple[Loc, str]]:
        """Parts whose fellows are missing, and names that are none of the basin's."""
        for part, needed in _NEEDS.items():
            for other in needed:
                if getattr(self, part) and not getattr(self, other):
                    yield (part,), f"needs `{other}:` beside it"
        points = [point.code for point in basin.points]
        for name in self.model_fields_set:
            part = getattr(self, name)
            if isinstance(part, Wetted):
                yield from _named((name, "catchment"), part.catchment, basin.catchments)
            if isinstance(part, Fed):
                yield from _named((name, "point"), part.point, points)


_NEEDS = {
    "city": ("wind",),
    "haze": ("city",),
    "fires": ("city",),
    "fire_weather": ("wind",),
    "slope": ("soil",),
    "discharge": ("current", "water"),
    "estuary": ("current",),
}


def _named(loc: Loc, name: str | None, known: Collection[str]) -> list[tuple[Loc, str]]:
    return [] if name is None else unknown(loc, name, known)
