"""Radio: published figures and the shape of the formulas."""

from __future__ import annotations

import pytest

from simulators import radio


def test_distance_of_a_degree_of_latitude() -> None:
    assert radio.distance_km((10.0, 107.0), (11.0, 107.0)) == pytest.approx(111.19, abs=0.05)


def test_airtime_agrees_with_the_calculators() -> None:
    # 10 bytes of payload: 61.7 ms at SF7 and 1482.8 ms at SF12, as network servers report it.
    assert radio.airtime_s(10, 7) == pytest.approx(0.061696)
    assert radio.airtime_s(10, 12) == pytest.approx(1.482752)


def test_loss_grows_by_the_exponent() -> None:
    assert radio.path_loss_db(1.0) == pytest.approx(128.95)
    assert radio.path_loss_db(10.0) - radio.path_loss_db(1.0) == pytest.approx(23.2)
    assert radio.path_loss_db(0.0) == radio.path_loss_db(0.05)


def test_noise_floor() -> None:
    assert pytest.approx(-117.0, abs=0.1) == radio.NOISE_DBM
    assert radio.snr_db(-40.0) == 13.5
    assert radio.snr_db(-137.0) == pytest.approx(-20.0, abs=0.1)


@pytest.mark.parametrize(
    ("heard", "factor"), [([13.0, -5.0], 7), ([2.4], 8), ([-2.0], 9), ([-9.0], 12), ([-30.0], 12), ([], 12)]
)
def test_spreading_factor_leaves_a_margin(heard: list[float], factor: int) -> None:
    assert radio.choose_spreading_factor(heard) == factor
