"""Fields name catalogue metrics, parts add up, and noise is what it says at any time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simulators.world.field import Field, Place, constant, everywhere, together
from simulators.world.series import Noise, Span

HERE = Place()
T = np.linspace(-50.0, 50.0, 301)


def test_a_field_has_its_metric_s_unit_or_is_refused() -> None:
    assert everywhere("water.ammonium", constant(1.0)).unit == "mg/L"
    with pytest.raises(ValueError, match=r"'water\.amonium' is no metric"):
        everywhere("water.amonium", constant(1.0))


def test_parts_of_one_name_add_up_and_stay_plausible() -> None:
    oxygen = [everywhere("water.dissolved_oxygen", constant(v)) for v in (6.0, -2.5)]
    deep = Field("water.dissolved_oxygen", lambda place, t_h: np.full(t_h.shape, -9.0 * place.depth_m))
    made = together([*oxygen, deep, everywhere("water.ph", constant(7.0))])
    assert sorted(made) == ["water.dissolved_oxygen", "water.ph"]
    field = made["water.dissolved_oxygen"]
    assert field.at(HERE, T) == pytest.approx(3.5)
    assert field.at(Place(depth_m=1.0), T) == pytest.approx(0.0)


def test_noise_is_standard_normal_and_forgets_at_its_pace() -> None:
    noise = Noise(3, "x", memory_h=2.0)
    t = np.arange(0.0, 1024.0, 0.1)
    x = noise(t)
    assert abs(x.mean()) < 0.15
    assert x.std() == pytest.approx(1.0, abs=0.1)
    later = noise(t + 2.0)
    assert np.corrcoef(x, later)[0, 1] == pytest.approx(math.exp(-1.0), abs=0.1)
    assert np.abs(np.diff(x)).max() < 1.5
    step, rho = 0.25, math.exp(-1.0 / 8.0)
    before, between, after = noise(np.array([5.0, 5.0 + step / 2.0, 5.0 + step]))
    assert between == pytest.approx((before + after) / 2.0 / math.sqrt((1.0 + rho) / 2.0))


def test_noise_does_not_depend_on_how_it_is_asked_and_never_ends() -> None:
    noise = Noise(3, "x", memory_h=2.0)
    assert noise(T[::-1])[::-1].tolist() == noise(T).tolist() == Noise(3, "x", memory_h=2.0)(T).tolist()
    assert [float(noise(np.array(t))) for t in T[:5]] == noise(T)[:5].tolist()
    assert noise(T + 2.0 * 512) == pytest.approx(noise(T), abs=1e-6)
    assert float(noise(np.array(-1e-7))) == pytest.approx(float(noise(np.array(0.0))), abs=1e-5)
    assert np.abs(noise(T) - Noise(4, "x", memory_h=2.0)(T)).max() > 0.5
    assert np.abs(noise(T) - Noise(3, "y", memory_h=2.0)(T)).max() > 0.5


def test_what_follows_a_step_is_exponential() -> None:
    followed = Span(-10.0, 40.0).follow(lambda t: np.where(t > 0.0, 5.0, 1.0), 4.0)
    t = np.array([-5.0, 0.0, 4.0, 8.0, 100.0])
    expected = [1.0, 1.0, 5.0 - 4.0 / math.e, 5.0 - 4.0 / math.e**2, 5.0]
    assert followed(t) == pytest.approx(expected, abs=1e-3)
