"""Radio: published figures and the shape of the formulas."""

from __future__ import annotations

import numpy as np
import pytest

from simulators import radio


def test_distance_of_a_degree_of_latitude() -> None:
    south, north = np.array([10.0, 107.0]), np.array([[11.0, 107.0], [10.0, 107.0]])
    assert radio.distance_km(south, north) == pytest.approx([111.19, 0.0], abs=0.05)


def test_airtime_agrees_with_the_calculators() -> None:
    # 10 bytes of payload: 61.7 ms at SF7 and 1482.8 ms at SF12, as network servers report it.
    assert radio.airtime_s(np.array([10, 10]), np.array([7, 12])) == pytest.approx([0.061696, 1.482752])


def test_loss_grows_by_the_exponent() -> None:
    near, one, ten, nothing = radio.path_loss_db(np.array([0.05, 1.0, 10.0, 0.0]))
    assert one == pytest.approx(128.95)
    assert ten - one == pytest.approx(23.2)
    assert nothing == near


def test_noise_floor() -> None:
    assert pytest.approx(-117.0, abs=0.1) == radio.NOISE_DBM
    assert radio.snr_db(np.array([-40.0, -137.0])) == pytest.approx([13.5, -20.0], abs=0.1)


def test_the_fastest_spreading_factor_leaves_a_margin() -> None:
    heard = np.array([13.0, 2.5, 2.4, -2.0, -9.0, -30.0, -np.inf])
    assert radio.fastest(heard).tolist() == [7, 7, 8, 9, 12, 12, 12]
