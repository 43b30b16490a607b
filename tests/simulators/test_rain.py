"""Rain: the depth that was ordered falls, in the shape that was ordered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.world.rain import storm_depths, triangle_cdf

EDGES = np.arange(0.0, 48.25, 0.25)


def _storm(seed: int = 1, **options: float) -> np.ndarray:
    order = {"onset_h": 3.0, "duration_h": 10.0, "depth_mm": 80.0, "peak": 0.4, "roughness": 0.3} | options
    return storm_depths(EDGES, rng=np.random.Generator(np.random.PCG64(seed)), **order)


@given(
    depth=st.floats(0.1, 500),
    duration=st.floats(0.5, 40),
    peak=st.floats(0.05, 0.95),
    roughness=st.floats(0, 1),
)
def test_a_storm_brings_its_depth(depth: float, duration: float, peak: float, roughness: float) -> None:
    rain = _storm(depth_mm=depth, duration_h=duration, peak=peak, roughness=roughness)
    assert rain.sum() == pytest.approx(depth)
    assert (rain >= 0).all()


def test_it_rains_only_during_the_storm() -> None:
    rain = _storm()
    wet = EDGES[:-1][rain > 0]
    assert wet.min() == 3.0
    assert wet.max() == 12.75


def test_a_storm_half_over_at_the_first_edge_brings_the_rest() -> None:
    assert _storm(onset_h=-5.0, peak=0.5).sum() == pytest.approx(40.0)


def test_a_smooth_storm_peaks_where_it_should() -> None:
    rain = _storm(roughness=0.0)
    assert EDGES[int(rain.argmax())] == pytest.approx(3.0 + 0.4 * 10.0, abs=0.25)


def test_the_triangle_is_a_distribution() -> None:
    x = np.linspace(-0.5, 1.5, 400)
    share = triangle_cdf(x, 0.3)
    assert share[0] == 0.0
    assert share[-1] == 1.0
    assert (np.diff(share) >= 0).all()


def test_seed_decides() -> None:
    assert (_storm(seed=5) == _storm(seed=5)).all()
    assert (_storm(seed=5) != _storm(seed=6)).any()
