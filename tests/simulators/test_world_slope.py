"""Soil keeps its water; a slope accelerates along Fukuzono's straight line and fails when it is due."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.world.field import Place, constant
from simulators.world.series import Span
from simulators.world.slope import Slope
from simulators.world.soil import CLAY_LOAM, Soil

SPAN = Span(-24.0, 120.0)
T = np.arange(-24.0, 120.0, 0.25)


def storm(t_h: np.ndarray) -> np.ndarray:
    return np.where((t_h > 0.0) & (t_h < 40.0), 6.0, 0.0)


@settings(deadline=None, max_examples=25)
@given(
    rain=st.lists(st.floats(0.0, 120.0), min_size=24, max_size=24),
    start=st.floats(0.15, 0.476),
    leak=st.floats(0.0, 1.0),
)
def test_soil_makes_and_loses_no_water(rain: list[float], start: float, leak: float) -> None:
    span = Span(0.0, 24.0, 0.25)
    soil = Soil(lambda t: np.array(rain)[t.astype(int)], span, start=start, leak=leak)
    b = soil.balance
    assert b.rain == pytest.approx(b.runoff + b.evaporated + b.drained + b.stored, abs=1e-6)
    assert min(b.runoff, b.evaporated, b.drained) >= 0.0
    for depth in (0.1, 0.4, 0.9, 1.9):
        moisture = soil.moisture(depth, T)
        assert moisture.min() >= 100.0 * min(start, CLAY_LOAM.wilting) - 1e-9
        assert moisture.max() <= 100.0 * CLAY_LOAM.full + 1e-9


def test_rain_wets_from_above_and_drains_monotonely() -> None:
    soil = Soil(storm, SPAN, leak=0.2)
    arrival = [T[(soil.moisture(d, T) > soil.moisture(d, T[:1]) + 1.0).argmax()] for d in (0.1, 0.4, 0.9)]
    assert 0.0 < arrival[0] < arrival[1] < arrival[2]
    soaking = (soil.moisture(0.1, T) > 100.0 * CLAY_LOAM.field_capacity) & (soil.moisture(1.9, T) < 36.0)
    assert soaking.any()
    assert (soil.wetness(T[soaking]) == 0.0).all()
    assert soil.balance.drained > 0.0 == Soil(storm, SPAN, leak=0.0).balance.drained
    after = soil.wetness(np.arange(60.0, 120.0, 0.25))
    assert after.max() > 0.3
    assert (np.diff(after[np.argmax(after) :]) <= 1e-12).all()
    assert (soil.potential(0.1, T) < 0.0).all()
    order = np.argsort(soil.moisture(0.1, T))
    assert (np.diff(soil.potential(0.1, T)[order]) >= -1e-9).all()


def test_pore_pressure_is_the_water_that_stands() -> None:
    soil = Soil(storm, SPAN, slope_deg=30.0)
    moisture, potential, pressure = soil.fields()
    assert (moisture.unit, potential.unit, pressure.unit) == ("%", "kPa", "kPa")
    base = pressure.at(Place(depth_m=2.0), T)
    assert base == pytest.approx(9.81 * 0.75 * 2.0 * soil.wetness(T))
    assert base.max() > 3.0
    assert (pressure.at(Place(depth_m=1.0), T) <= base).all()
    assert ((soil.wetness(T) >= 0.0) & (soil.wetness(T) <= 1.0)).all()


def test_inverse_velocity_is_a_straight_line_to_the_failure() -> None:
    slope = Slope(constant(1.0), SPAN, hours_to_failure=24.0, onset_mm_h=0.5)
    assert slope.failure_h == pytest.approx(0.0, abs=0.02)
    t = SPAN.middles[:280]
    assert 1.0 / slope.speed(t) == pytest.approx((0.0 - t) / (0.5 * 24.0), rel=1e-6)
    early = np.array([-12.0, -2.4])
    assert slope.displacement(early) == pytest.approx(12.0 * np.log([2.0, 10.0]), abs=0.05)


def test_half_the_load_takes_twice_the_time() -> None:
    assert Slope(constant(0.8), SPAN, critical=0.6).failure_h == pytest.approx(24.0, abs=0.05)


def test_a_dry_slope_only_creeps() -> None:
    slope = Slope(constant(0.5), SPAN)
    assert slope.failure_h is None
    assert slope.displacement(T) == pytest.approx(0.005 * (T + 24.0))


def test_rain_brings_a_slope_down_and_less_rain_only_moves_it() -> None:
    down = Slope(Soil(storm, SPAN, start=0.40).wetness, SPAN)
    assert down.failure_h is not None
    assert 6.0 < down.failure_h < 110.0
    moved = down.displacement(T)
    assert (np.diff(moved) >= 0.0).all()
    assert 30.0 < float(down.displacement(np.array(down.failure_h))) < 200.0
    assert moved[-1] > 5000.0
    displacement, tilt = down.fields()
    assert tilt.at(Place(), T) == pytest.approx(np.degrees(np.arctan(displacement.at(Place(), T) / 2000.0)))
    assert down.displacement(T[::-1])[::-1].tolist() == moved.tolist()
    held = Slope(Soil(lambda t: storm(t) / 3.0, SPAN, start=0.40).wetness, SPAN)
    assert held.failure_h is None
