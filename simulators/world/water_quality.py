"""A river's water over the day and under its flow: temperature, oxygen, pH, turbidity, conductivity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .air import WARMEST_HOUR
from .field import Field, Series, everywhere
from .rain import Array
from .series import day_angle

_HEAT_CAPACITY = 4.18e6  # J/(m³·K)
_HARMONICS = 12


def oxygen_saturation(celsius: Array, salinity: Array | float = 0.0) -> Array:
    """mg/L of oxygen in water in balance with air at 1 atm; salinity in g/kg, as good as g/L here.

    ln C = −139.34411 + 1.575701e5/T − 6.642308e7/T² + 1.2438e10/T³ − 8.621949e11/T⁴
    − S·(0.017674 − 10.754/T + 2140.7/T²), T in K. Source: Benson & Krause (1984), Limnology and
    Oceanography 29(3), as in APHA Standard Methods 4500-O. For 0–40 °C and 0–40 g/kg.
    """
    k = np.asarray(celsius, dtype=np.float64) + 273.15
    fresh = -139.34411 + 1.575701e5 / k - 6.642308e7 / k**2 + 1.2438e10 / k**3 - 8.621949e11 / k**4
    salt: Array = np.asarray(salinity) * (0.017674 - 10.754 / k + 2140.7 / k**2)
    return np.exp(fresh - salt)


def turbidity(flow_m3s: Array, *, at_one: float, power: float) -> Array:
    """NTU under a flow: a·Q^b, as sediment rating curves. Source: Asselman (2000), J. Hydrology 234."""
    return at_one * np.maximum(flow_m3s, 0.0) ** power


def conductivity(flow_m3s: Array, *, usual: float, usual_flow_m3s: float, power: float, rain: float) -> Array:
    """µS/cm under a flow: `usual`·(Q/Q₀)^−b, diluted to that of `rain` at most.

    Source: the power law of Godsey, Kirchner & Clow (2009), Hydrological Processes 23(13).
    """
    share = np.maximum(flow_m3s, 1e-6) / usual_flow_m3s
    return np.maximum(usual * share**-power, rain)


@dataclass(frozen=True, slots=True)
class WaterBody:
    """A well-mixed reach under a day that repeats; rates per day, the day's production in mg/L a day.

    `exchange_w_m2k` couples it to the air (30–50 W/(m²·K) in the tropics), `ph_swing` is the rise of pH
    for oxygen at twice its saturation (a plausible choice, no law: it stands for the CO₂ taken up).
    `flow` in m³/s sets turbidity and conductivity.
    """

    flow: Series
    air_mean_c: float = 28.0
    air_swing_c: float = 5.0
    depth_m: float = 3.0
    exchange_w_m2k: float = 40.0
    reaeration: float = 1.0
    production: float = 4.0
    respiration: float = 5.0
    mean_ph: float = 7.1
    ph_swing: float = 1.0
    turbidity_at_one: float = 1.0
    turbidity_power: float = 0.7
    usual_flow_m3s: float = 100.0
    usual_conductivity: float = 90.0
    dilution_power: float = 0.15
    rain_conductivity: float = 20.0
    start_hour: float = 0.0

    def temperature(self, t_h: Array) -> Array:
        """°C: dT/dt = (Tₐ − T)/τ with τ = ρ·c·depth/K, once settled: the air's swing, damped and late.

        Amplitude A/√(1 + (ωτ)²), lag arctan(ωτ)/ω. Source: Edinger, Duttweiler & Geyer (1968), Water
        Resources Research 4(5), with the air's temperature for their equilibrium temperature.
        """
        per_day = 2.0 * math.pi * self.depth_m * _HEAT_CAPACITY / (self.exchange_w_m2k * 86400.0)
        angle = day_angle(t_h, start_hour=self.start_hour, peak_hour=WARMEST_HOUR) - math.atan(per_day)
        return self.air_mean_c + self.air_swing_c / math.sqrt(1.0 + per_day**2) * np.cos(angle)

    def oxygen_deficit(self, t_h: Array) -> Array:
        """mg/L below saturation (above, when negative): dD/dt = R − P(t) − kₐ·D, once settled.

        P is half a sine from 6 to 18 h; solved for its Fourier series, 12 harmonics long. The daily mean is
        (R − P)/kₐ. Source: Chapra & Di Toro (1991), Delta method, J. Environmental Engineering 117(5).
        """
        noon = day_angle(t_h, start_hour=self.start_hour, peak_hour=12.0)
        deficit = np.full(np.shape(noon), (self.respiration - self.production) / self.reaeration)
        for n in (1, *range(2, 2 * _HARMONICS, 2)):
            share = math.pi / 2.0 if n == 1 else -2.0 * (-1.0) ** (n // 2) / (n * n - 1.0)
            turns = 2.0 * math.pi * n
            gain = share * self.production / math.hypot(self.reaeration, turns)
            deficit -= gain * np.cos(n * noon - math.atan2(turns, self.reaeration))
        return deficit

    def oxygen(self, t_h: Array) -> Array:
        """mg/L: what saturation at the water's temperature and the deficit leave, at least 0."""
        return np.maximum(oxygen_saturation(self.temperature(t_h)) - self.oxygen_deficit(t_h), 0.0)

    def ph(self, t_h: Array) -> Array:
        """pH, between 4 and 10, rising with the oxygen that plants leave behind."""
        excess = -self.oxygen_deficit(t_h) / oxygen_saturation(self.temperature(t_h))
        return np.clip(self.mean_ph + self.ph_swing * excess, 4.0, 10.0)

    def fields(self) -> tuple[Field, ...]:
        """water.temperature, .dissolved_oxygen, .ph, .turbidity and .conductivity."""
        return (
            everywhere("water.temperature", self.temperature),
            everywhere("water.dissolved_oxygen", self.oxygen),
            everywhere("water.ph", self.ph),
            everywhere("water.turbidity", self._turbidity),
            everywhere("water.conductivity", self._conductivity),
        )

    def _turbidity(self, t_h: Array) -> Array:
        return turbidity(self.flow(t_h), at_one=self.turbidity_at_one, power=self.turbidity_power)

    def _conductivity(self, t_h: Array) -> Array:
        return conductivity(
            self.flow(t_h),
            usual=self.usual_conductivity,
            usual_flow_m3s=self.usual_flow_m3s,
            power=self.dilution_power,
            rain=self.rain_conductivity,
        )
