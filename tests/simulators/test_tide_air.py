"""Tide and air: periods, extremes and bounds that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.world.air import relative_humidity, temperature
from simulators.world.field import constant
from simulators.world.sky import Sky
from simulators.world.tide import SPEEDS, tide

PERIODS_H = {"M2": 12.4206, "S2": 12.0, "N2": 12.6583, "K1": 23.9345, "O1": 25.8193}


@pytest.mark.parametrize("name", SPEEDS)
def test_constituents_have_their_periods(name: str) -> None:
    hours = np.arange(0, 24 * 60, 0.05)
    heights = np.array([tide(t, [(name, 1.0, 30.0)]) for t in hours])
    ups = hours[1:][(heights[:-1] < 0) & (heights[1:] >= 0)]
    assert np.diff(ups).mean() == pytest.approx(PERIODS_H[name], abs=0.005)


def test_the_crest_comes_after_the_phase_lag() -> None:
    assert tide(90.0 / SPEEDS["M2"], [("M2", 0.8, 90.0)]) == pytest.approx(0.8)


def test_constituents_add_up() -> None:
    both = [("M2", 0.8, 10.0), ("K1", 0.5, 200.0)]
    assert tide(7.3, both) == pytest.approx(tide(7.3, both[:1]) + tide(7.3, both[1:]))


def test_the_day_is_warmest_at_two_and_coolest_at_two() -> None:
    day = [temperature(h / 4, mean=27.0, swing=4.0) for h in range(96)]
    assert max(day) == day[14 * 4] == pytest.approx(31.0)
    assert min(day) == day[2 * 4] == pytest.approx(23.0)


def test_rain_cools_but_not_without_end() -> None:
    dry = temperature(14, mean=27, swing=4)
    assert (
        dry > temperature(14, mean=27, swing=4, rain_mm_h=5) > temperature(14, mean=27, swing=4, rain_mm_h=50)
    )
    assert dry - temperature(14, mean=27, swing=4, rain_mm_h=1000) == pytest.approx(4.0)


@given(st.floats(0, 45), st.floats(-5, 35))
def test_humidity_is_a_share(celsius: float, dew_point: float) -> None:
    assert 0 < relative_humidity(celsius, dew_point) <= 100


def test_air_at_its_dew_point_is_saturated() -> None:
    assert relative_humidity(24.0, 24.0) == 100.0
    # 30 °C over a dew point of 20 °C: 55 % in any psychrometric table.
    assert relative_humidity(30.0, 20.0) == pytest.approx(55.0, abs=0.5)


def test_the_sun_is_high_at_noon_and_rain_and_clouds_dim_it() -> None:
    hours = np.arange(0.0, 24.0, 0.25)
    clear, cloudy, wet = (
        Sky(rain_mm_h=constant(rain), cover=cover).radiation(hours)
        for cover, rain in ((0.0, 0.0), (0.7, 0.0), (0.0, 5.0))
    )
    assert hours[clear.argmax()] == 12.0
    assert clear.max() == pytest.approx(1037.0, abs=1.0)
    assert clear[(hours < 6.0) | (hours > 18.0)].max() < 1e-6
    assert wet.max() == pytest.approx(0.25 * clear.max(), rel=0.01)
    assert (cloudy[30:60] < clear[30:60]).all()


def test_pressure_peaks_twice_a_day() -> None:
    hours = np.arange(0.0, 48.0, 0.01)
    hpa = Sky(mean_hpa=1000.0, start_hour=5.0).pressure(hours)
    peaks = hours[1:-1][(hpa[1:-1] > hpa[:-2]) & (hpa[1:-1] > hpa[2:])]
    assert peaks + 5.0 == pytest.approx([9.73, 21.73, 33.73, 45.73], abs=0.02)
    assert (hpa.min(), hpa.max()) == pytest.approx((998.84, 1001.16))
