"""Rivers: no water is made or lost, and floods travel, flatten and recede."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simulators.world import river

DT = 300.0
FLOWS = arrays(np.float64, st.integers(2, 200), elements=st.floats(0, 5000))
PULSE = np.concatenate([np.full(40, 900.0), np.full(600, 100.0)])
PULSE[0] = 100.0


@given(inflow=FLOWS, n=st.integers(1, 5), k=st.floats(600, 200_000))
def test_a_cascade_keeps_all_water(inflow: np.ndarray, n: int, k: float) -> None:
    routed = river.nash(inflow, DT, n=n, k=k)
    at_start = n * inflow[0] * k
    gone = (inflow.sum() - routed.outflow.sum()) * DT
    assert routed.storage[-1] - at_start == pytest.approx(gone, rel=1e-9, abs=1e-3 + 1e-9 * at_start)


def test_steady_water_stays_steady() -> None:
    routed = river.nash(np.full(50, 230.0), DT, n=3, k=7200.0)
    assert routed.outflow == pytest.approx(230.0)


def test_without_rain_the_river_only_falls() -> None:
    outflow = river.nash(PULSE, DT, n=3, k=5 * 3600.0).outflow
    peak = int(outflow.argmax())
    assert 40 <= peak < 200
    assert (np.diff(outflow[peak:]) < 0).all()
    assert outflow[-1] == pytest.approx(100.0, rel=0.05)


def test_a_single_reservoir_recedes_exponentially() -> None:
    k = 10 * 3600.0
    inflow = np.zeros(100)
    inflow[0] = 500.0
    outflow = river.nash(inflow, DT, n=1, k=k).outflow
    assert outflow[2:] / outflow[1:-1] == pytest.approx(np.exp(-DT / k))


def test_more_reservoirs_delay_and_flatten() -> None:
    one, three = (river.nash(PULSE, DT, n=n, k=3 * 3600.0).outflow for n in (1, 3))
    assert three.max() < one.max() < PULSE.max()
    assert three.argmax() > one.argmax()


def test_a_delay_moves_the_wave_and_nothing_else() -> None:
    later = river.delay(PULSE, DT, 10 * DT)
    assert (later[10:] == PULSE[:-10]).all()
    assert (later[:10] == PULSE[0]).all()


def test_runoff_is_rain_times_area() -> None:
    # 12 mm on 100 km², half of it running off: 600,000 m³.
    flow = river.runoff(np.array([4.0, 8.0]), 100.0, 0.5, DT)
    assert flow.sum() * DT == pytest.approx(600_000.0)


@given(st.floats(0.1, 1e4), st.floats(1, 500), st.floats(1, 3), st.floats(-5, 500))
def test_stage_inverts_the_rating(flow: float, a: float, b: float, zero: float) -> None:
    level = float(river.stage(np.array([flow]), a=a, b=b, zero_m=zero)[0])
    assert a * (level - zero) ** b == pytest.approx(flow, rel=1e-4)


@given(inflow=FLOWS, start=st.floats(0, 1e8))
def test_a_pool_keeps_all_water_and_never_owes_any(inflow: np.ndarray, start: float) -> None:
    release = river.piecewise([(0.0, 0.0), (50.0, 400.0), (100.0, 6000.0)])
    routed = river.pool(inflow, DT, start=start, level=lambda s: s / 1e6, release=release)
    assert routed.storage[-1] - start == pytest.approx((inflow - routed.outflow).sum() * DT, abs=1.0)
    assert (routed.storage >= -1e-3).all()
    assert (routed.outflow >= 0).all()


def test_a_pool_rises_while_more_comes_than_goes() -> None:
    release = river.piecewise([(0.0, 0.0), (100.0, 200.0)])
    routed = river.pool(PULSE, DT, start=5e7, level=lambda s: s / 1e6, release=release)
    rising = np.diff(routed.storage, prepend=5e7) > 0
    assert (rising == (routed.outflow < PULSE)).all()
    assert rising[5]
    assert not rising[-1]
