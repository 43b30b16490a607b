"""Batteries last years, die with a knee, and show less in the cold."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.radio import airtime_s
from simulators.sensors.battery import used, voltage


def _years(every_s: float, factor: int) -> float:
    airtime = airtime_s(np.array([20]), np.array([factor]))
    return float(every_s / used(airtime, np.array([every_s]))[0] / (365 * 86400))


def test_it_lasts_longer_the_seldomer_and_faster_it_sends() -> None:
    assert 2.0 < _years(600.0, 7) < 10.0
    assert _years(600.0, 12) < _years(600.0, 7) < _years(3600.0, 7) < 60.0


def test_its_voltage_falls_with_charge_and_cold() -> None:
    charge = np.linspace(0.0, 1.0, 101)
    volts = voltage(charge)
    assert (np.diff(volts) > 0).all()
    assert volts[-1] == pytest.approx(3.65, abs=0.01)
    assert volts[20] > 3.4
    assert volts[0] < 2.2
    assert (voltage(charge, 5.0) < volts).all()
