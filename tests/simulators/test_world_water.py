"""Water: oxygen and heat balance over a day, releases keep their mass, travel with the tide and sag."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.world import water_quality
from simulators.world.current import Current
from simulators.world.discharge import Discharge, Reach, Release, sag
from simulators.world.field import Place, constant, together
from simulators.world.tide import SPEEDS
from simulators.world.water_quality import WaterBody, oxygen_saturation

DAY = np.arange(0.0, 24.0, 0.1)
BODY = WaterBody(flow=constant(100.0))
STILL = Current(0.0)
TIDAL = Current(0.05, (("M2", 0.9, 40.0),))
SPILL = Release(2.0, 3.0, ammonium_kg=4000.0, cod_kg=60_000.0, salt_kg=90_000.0)
X = np.arange(-60.0, 100.0, 0.1)


def along(discharge: Discharge, hour: float, what: str) -> np.ndarray:
    return np.array([getattr(discharge, what)(x, np.array([hour]))[0] for x in X])


@pytest.mark.parametrize(
    ("celsius", "salinity", "mg_l"),
    [(0.0, 0.0, 14.621), (20.0, 0.0, 9.092), (25.0, 0.0, 8.263), (30.0, 0.0, 7.559), (25.0, 35.0, 6.75)],
)
def test_saturation_is_that_of_the_tables(celsius: float, salinity: float, mg_l: float) -> None:
    assert float(oxygen_saturation(np.array(celsius), salinity)) == pytest.approx(mg_l, abs=0.03)


def test_water_follows_the_air_late_and_damped() -> None:
    shallow, deep = (WaterBody(flow=constant(1.0), depth_m=depth).temperature(DAY) for depth in (0.2, 3.0))
    assert shallow.mean() == pytest.approx(28.0) == deep.mean()
    assert 5.0 > np.ptp(shallow) / 2.0 > 3.0 * np.ptp(deep) / 2.0
    assert 14.0 < DAY[shallow.argmax()] < DAY[deep.argmax()] < 20.0


def test_oxygen_keeps_its_balance_and_its_hours() -> None:
    deficit = BODY.oxygen_deficit(DAY)
    assert deficit.mean() == pytest.approx((BODY.respiration - BODY.production) / BODY.reaeration)
    light = np.maximum(np.cos(2 * np.pi * (DAY - 12.0) / 24.0), 0.0) * np.pi * BODY.production
    change = np.gradient(deficit, DAY / 24.0)
    balance = BODY.respiration - light - BODY.reaeration * deficit
    assert change[2:-2] == pytest.approx(balance[2:-2], abs=0.3)
    assert 15.0 < DAY[BODY.oxygen(DAY).argmax()] < 18.5
    assert 5.0 < DAY[BODY.oxygen(DAY).argmin()] < 9.0
    assert np.corrcoef(BODY.oxygen(DAY), BODY.ph(DAY))[0, 1] > 0.98


def test_floods_are_turbid_and_dilute() -> None:
    flows = np.array([0.0, 10.0, 100.0, 1000.0, 1e7])
    ntu = water_quality.turbidity(flows, at_one=1.0, power=0.7)
    assert ntu[0] == 0.0
    assert (np.diff(ntu) > 0.0).all()
    ec = water_quality.conductivity(flows, usual=90.0, usual_flow_m3s=100.0, power=0.15, rain=20.0)
    assert (np.diff(ec) <= 0.0).all()
    assert (ec[2], ec[-1]) == (90.0, 20.0)


def test_the_current_is_what_carries() -> None:
    t = np.arange(0.0, 60.0, 0.01)
    speed = TIDAL.speed(t)
    way = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2.0 * 0.01 * 3.6)])
    assert TIDAL.moved(t) == pytest.approx(way, abs=1e-3)
    period = 360.0 / SPEEDS["M2"]
    assert float(TIDAL.moved(np.array(period))) == pytest.approx(-0.05 * 3.6 * period)


@pytest.mark.parametrize("current", [STILL, TIDAL])
def test_what_does_not_decay_is_kept(current: Current) -> None:
    discharge = Discharge(Reach(current, section_m2=5000.0, outfall_km=20.0, nitrification=0.0), [SPILL])
    kg = along(discharge, 30.0, "ammonium").sum() * 0.1 * 5000.0
    assert kg == pytest.approx(4000.0, rel=1e-6)
    assert discharge.ammonium(20.0, np.array([-5.0, 2.0])).tolist() == [0.0, 0.0]


def test_half_a_release_is_there_halfway() -> None:
    discharge = Discharge(Reach(STILL, section_m2=5000.0, outfall_km=20.0, nitrification=0.0), [SPILL])
    assert along(discharge, 3.5, "ammonium").sum() * 0.1 * 5000.0 == pytest.approx(2000.0, rel=1e-6)


def test_what_decays_decays_and_the_peak_goes_with_the_water() -> None:
    pulse = Release(2.0, 0.0, ammonium_kg=1000.0, cod_kg=500.0)
    reach = Reach(TIDAL, section_m2=5000.0, outfall_km=20.0, nitrification=0.5, decay=0.3, degradable=0.6)
    discharge = Discharge(reach, [pulse])
    for age in (4.2, 10.0, 46.0):
        hour = 2.0 + age
        there = along(discharge, hour, "ammonium")
        assert there.sum() * 0.1 * 5000.0 == pytest.approx(1000.0 * np.exp(-0.5 * age / 24.0))
        way = float(TIDAL.moved(np.array(hour)) - TIDAL.moved(np.array(2.0)))
        middle = np.average(X, weights=there)
        assert middle == pytest.approx(20.0 + way)
        spread = np.average((X - middle) ** 2, weights=there)
        assert spread == pytest.approx(0.2**2 + 2.0 * 100.0 * 3600.0 * age / 1e6)
        cod = along(discharge, hour, "cod").sum() * 0.1 * 5000.0
        assert cod == pytest.approx(500.0 * (0.4 + 0.6 * np.exp(-0.3 * age / 24.0)))


def test_the_oxygen_sags_after_streeter_and_phelps() -> None:
    decay, reaeration = 0.35, 0.6
    days = np.arange(0.0, 20.0, 0.01)
    critical = np.log(reaeration / decay) / (reaeration - decay)
    assert days[sag(days, decay, reaeration).argmax()] == pytest.approx(critical, abs=0.01)
    assert sag(np.array(1e-6), decay, reaeration) == pytest.approx(decay * 1e-6, rel=1e-5)
    assert sag(days, 0.5, 0.5) == pytest.approx(sag(days, 0.5, 0.5 + 1e-6), abs=1e-5)
    reach = Reach(TIDAL, 5000.0, 20.0, decay=decay, reaeration=reaeration, degradable=1.0)
    discharge = Discharge(reach, [Release(0.0, 0.0, cod_kg=50_000.0, ammonium_kg=3000.0)])
    missing = along(discharge, 36.0, "oxygen_deficit").sum() * 0.1 * 5000.0
    age = np.array(1.5)
    demand = 50_000.0 * sag(age, decay, reaeration) + 4.57 * 3000.0 * sag(
        age, reach.nitrification, reaeration
    )
    assert missing == pytest.approx(float(demand), rel=1e-6)


def test_a_release_adds_to_the_river_it_enters() -> None:
    t = np.arange(0.0, 72.0, 0.25)
    discharge = Discharge(Reach(TIDAL, section_m2=600.0, outfall_km=20.0), [SPILL])
    fields = together([*BODY.fields(), *discharge.fields()])
    here, far = Place(river_km=21.0), Place(river_km=500.0)
    oxygen, salt = fields["water.dissolved_oxygen"], fields["water.conductivity"]
    assert oxygen.at(far, t) == pytest.approx(BODY.oxygen(t))
    assert (oxygen.at(here, t) - BODY.oxygen(t)).min() < -0.5
    assert salt.at(here, t).max() > 110.0 > salt.at(far, t).max() == pytest.approx(90.0)
    assert fields["water.ammonium"].at(here, t).max() > 0.9  # past the last class of VN_WQI but one
    assert oxygen.at(here, t[::-1])[::-1].tolist() == oxygen.at(here, t).tolist()
