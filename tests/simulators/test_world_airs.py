"""Air: winds are Weibull, a box is in balance, smoke is neither made nor lost and goes with the wind."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simulators.world import plume
from simulators.world.air_quality import City, Haze, traffic, washout
from simulators.world.field import Place, constant, together
from simulators.world.plume import Fire
from simulators.world.wind import Wind, WindClimate

DAY = np.arange(0.0, 24.0, 0.1)
YEAR = np.arange(0.0, 1500.0, 0.25)


def test_wind_is_weibull_with_its_mean_at_every_hour() -> None:
    wind = Wind(WindClimate(mean_ms=3.0, shape=1.8, afternoon=0.0), seed=5)
    u = wind.speed(YEAR)
    assert u.mean() == pytest.approx(3.0, rel=0.06)
    scale = 3.0 / math.gamma(1.0 + 1.0 / 1.8)
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(u, share) == pytest.approx(scale * (-math.log(1.0 - share)) ** (1 / 1.8), rel=0.12)
    assert u.min() >= 0.0
    assert (wind.gust(YEAR) >= u).all()
    assert 1.3 < (wind.gust(YEAR) / u).mean() < 1.9


def test_wind_blows_up_in_the_afternoon_from_its_side() -> None:
    wind = Wind(WindClimate(afternoon=0.6, from_deg=350.0), seed=5, start_hour=6.0)
    by_hour = wind.speed(YEAR)[:5952].reshape(-1, 96).mean(axis=0)
    assert by_hour[28:36].mean() > 2.0 * by_hour[76:84].mean()
    direction = wind.direction(YEAR)
    assert ((direction >= 0.0) & (direction < 360.0)).all()
    mean = np.degrees(np.angle(np.exp(1j * np.radians(direction)).mean()))
    assert mean == pytest.approx(-10.0, abs=8.0)
    assert wind.speed(DAY[::-1])[::-1].tolist() == wind.speed(DAY).tolist()
    assert (
        Wind(WindClimate(), seed=5, name="other").speed(DAY).tolist()
        != Wind(WindClimate(), seed=5).speed(DAY).tolist()
    )


def test_traffic_has_two_peaks_and_a_mean_of_one() -> None:
    share = traffic(DAY)
    assert share.mean() == pytest.approx(1.0, abs=1e-3)
    peaks = DAY[1:-1][(share[1:-1] > share[:-2]) & (share[1:-1] > share[2:])]
    assert peaks == pytest.approx([7.5, 17.75], abs=0.1)
    assert traffic(DAY, 6.0) == pytest.approx(traffic(DAY + 6.0))


def test_the_box_is_in_balance() -> None:
    city = City(wind_ms=constant(2.0), rain_mm_h=constant(12.0), haze=Haze(0.0, 240.0, 40.0))
    t = DAY + 100.0
    c, a = city.concentration("air.pm2_5", t), 2.0 / 20_000.0
    gained = 0.35 * traffic(t) / city.mixing_height(t) + a * (14.0 + 40.0)
    assert c * (a + 0.25 * washout(np.array(12.0))) == pytest.approx(gained)


def test_inversion_wind_rain_and_haze_do_what_they_do() -> None:
    calm, windy = (City(wind_ms=constant(u)).concentration("air.pm2_5", DAY) for u in (1.0, 6.0))
    assert (calm > windy).all()
    assert (windy > 14.0).all()
    assert DAY[calm.argmax()] == pytest.approx(7.0, abs=1.0) or DAY[calm.argmax()] > 18.0
    assert 11.0 < DAY[calm.argmin()] < 15.0
    wet = City(wind_ms=constant(1.0), rain_mm_h=constant(10.0))
    for name, share in (("air.pm2_5", 0.3), ("air.pm10", 0.2)):
        dry = City(wind_ms=constant(1.0)).concentration(name, DAY)
        assert wet.concentration(name, DAY) == pytest.approx(share * dry, rel=0.4)
    assert wet.concentration("air.co", DAY) == pytest.approx(City(constant(1.0)).concentration("air.co", DAY))
    torrent = City(wind_ms=constant(9.0), rain_mm_h=constant(150.0))
    sizes = [torrent.concentration(name, DAY) for name in ("air.pm1", "air.pm2_5", "air.pm4", "air.pm10")]
    assert (np.diff(sizes, axis=0) > 0.0).all()
    haze = Haze(10.0, 48.0, 60.0)
    assert haze(np.array([9.9, 10.0, 18.0, 50.0, 58.0, 90.0])) == pytest.approx([0, 0, 60, 60, 0, 0])
    dirty = City(wind_ms=constant(1.0), haze=haze)
    assert dirty.concentration("air.pm2_5", DAY + 24) - calm == pytest.approx(60.0)


def test_ozone_is_the_afternoon_s_and_traffic_eats_it() -> None:
    city = City(wind_ms=constant(1.0))
    ozone = city.ozone(DAY)
    assert (ozone > 0.0).all()
    assert 11.0 < DAY[ozone.argmax()] < 15.5
    assert ozone[[75, 180]].max() < 0.5 * ozone.max()
    assert (City(wind_ms=constant(4.0)).ozone(DAY) >= ozone).all()


@pytest.mark.parametrize("letter", range(6))
def test_all_smoke_passes_through_every_plane_across_the_wind(letter: int) -> None:
    for x in (300.0, 5000.0):
        sy, sz = plume.spread(np.array(x), np.array(letter))
        y = np.linspace(-6.0, 6.0, 121) * float(sy)
        z = np.linspace(0.0, 100.0 + 8.0 * float(sz), 801)
        c = plume.gaussian(
            np.array(x),
            y[:, None],
            z,
            wind_ms=np.array(3.0),
            classes=np.array(letter),
            height_m=50.0,
            lid_m=np.array(1e9),
        )
        flux = np.trapezoid(np.trapezoid(c, z), y) * 3.0
        assert flux == pytest.approx(1.0, rel=1e-4)


def at_the_ground(downwind_m: float, up_m: np.ndarray) -> np.ndarray:
    """Of a fire on the ground, under a lid at 500 m."""
    return plume.gaussian(
        np.array(downwind_m),
        np.array(0.0),
        up_m,
        wind_ms=np.array(3.0),
        classes=np.array(0),
        height_m=0.0,
        lid_m=np.array(500.0),
    )


def test_under_a_lid_smoke_fills_the_layer_and_no_more() -> None:
    across, _ = plume.spread(np.array(9000.0), np.array(0))
    evenly = 1.0 / (np.sqrt(2.0 * np.pi) * across * 3.0 * 500.0)
    assert at_the_ground(9000.0, np.array([0.0, 200.0])) == pytest.approx(np.full(2, evenly), rel=0.15)
    assert at_the_ground(-9000.0, np.zeros(2)).tolist() == [0.0, 0.0]


def test_stability_is_pasquill_s_table() -> None:
    noon, night = (
        plume.stability(np.array([1.0, 2.5, 4.0, 5.5, 7.0]), np.array(s)).tolist() for s in (1.0, 0.0)
    )
    assert noon == [0, 0, 1, 2, 2]
    assert night == [5, 5, 4, 3, 3]


def test_smoke_goes_with_the_wind_and_not_against_it() -> None:
    lid = City(constant(3.0)).mixing_height
    fire = Fire(constant(3.0), constant(270.0), lid, onset_h=8.0, duration_h=10.0, peak_kg_s=100.0)
    t = np.arange(0.0, 24.0, 0.5)
    fields = together([*City(constant(3.0)).fields(), *fire.fields()])
    pm = fields["air.pm2_5"]
    clean = pm.at(Place(-5.0, 0.0), t)
    east, beside, far = (pm.at(Place(*place), t) - clean for place in ((5.0, 0.0), (5.0, 4.0), (20.0, 0.0)))
    assert east.max() > 100.0
    assert east.max() > far.max() > 5.0
    assert beside.max() < 0.01 * east.max()
    assert t[east > 0.01].min() > 8.0
    assert t[east > 0.01].max() < 18.0
    assert np.trapezoid(fire.burning(t), t) == pytest.approx(500.0)
    assert fire.dilution(Place(0.0, 5.0), np.array([12.0])) == pytest.approx([0.0], abs=1e-12)
    assert fire.dilution(Place(-5.0, 0.0), t).max() == 0.0
    turned = Fire(constant(3.0), constant(225.0), lid, onset_h=8.0, duration_h=10.0, peak_kg_s=100.0)
    assert turned.dilution(Place(3.0, 3.0), t) == pytest.approx(fire.dilution(Place(18**0.5, 0.0), t))
    south = Fire(constant(3.0), constant(180.0), lid, onset_h=8.0, duration_h=10.0, peak_kg_s=100.0)
    assert south.dilution(Place(0.0, 5.0), t) == pytest.approx(fire.dilution(Place(5.0, 0.0), t))
