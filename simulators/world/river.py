"""Rainfall to runoff to stage: linear reservoirs, travel times, rating curves and a level pool.

Flows are means over a time step in m³/s, shape (n,); `dt` is the step in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .rain import Array


class Routed(NamedTuple):
    """Outflow (n,) in m³/s and the water held at the end of each step (n,) in m³."""

    outflow: Array
    storage: Array


def runoff(depth_mm: Array, area_km2: float, coefficient: float, dt: float) -> Array:
    """Direct runoff of rain `depth_mm` per step: Q = c · P · A / dt (the rational method's water balance).

    1 mm on 1 km² are 1000 m³. Source: Chow, Maidment & Mays (1988), Applied Hydrology, section 5.
    """
    return depth_mm * (1000.0 * area_km2 * coefficient / dt)


def nash(inflow: Array, dt: float, *, n: int, k: float) -> Routed:
    """Route `inflow` through `n` equal linear reservoirs of storage time `k` (seconds), steady at the start.

    Each obeys S = k·Q, dS/dt = I − Q; solved exactly for an inflow that is constant within a step:
    S(t+dt) = S(t)·e + I·k·(1−e), e = exp(−dt/k); the mean outflow I − ΔS/dt feeds the next one, so that
    no water is lost. Source: Nash (1957), The form of the instantaneous unit hydrograph, IASH Publ. 45.
    """
    e = math.exp(-dt / k)
    total = np.zeros_like(inflow)
    flow = inflow.astype(np.float64)
    for _ in range(n):
        stored = float(flow[0]) * k
        out = np.empty_like(flow)
        for i, value in enumerate(flow.tolist()):
            after = stored * e + value * k * (1.0 - e)
            out[i] = value - (after - stored) / dt
            total[i] += after
            stored = after
        flow = out
    return Routed(flow, total)


def delay(flow: Array, dt: float, lag: float) -> Array:
    """The same flow `lag` seconds later: pure translation, linear between steps; steady before the start."""
    steps = np.arange(len(flow), dtype=np.float64)
    return np.interp(steps - lag / dt, steps, flow)


def stage(flow: Array, *, a: float, b: float, zero_m: float) -> Array:
    """Water level in m for `flow`, the inverse of the rating curve Q = a·(H − H₀)^b.

    Source: WMO-No. 1044 (2010), Manual on Stream Gauging II, section 1; ISO 18320.
    """
    return zero_m + np.power(np.maximum(flow, 0.0) / a, 1.0 / b)


def pool(
    inflow: Array,
    dt: float,
    *,
    start: float,
    level: Callable[[float], float],
    release: Callable[[float], float],
) -> Routed:
    """Level-pool routing: S(t+dt) = S(t) + (I − O)·dt with O = release(level(S)), never below empty.

    `start` and the storage are m³, `level` gives m for m³, `release` m³/s for m. Explicit, so `dt` must be
    short against the pool's own response (hours to days for a big reservoir). Source: Chow, Maidment &
    Mays (1988), Applied Hydrology, section 8.2.
    """
    storage = start
    out = np.empty_like(inflow)
    held = np.empty_like(inflow)
    for i, value in enumerate(inflow.tolist()):
        out[i] = min(release(level(storage)), value + storage / dt)
        storage += (value - out[i]) * dt
        held[i] = storage
    return Routed(out, held)


def piecewise(points: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """The function through `points` (x rising), linear between them and level outside."""
    xs, ys = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    return lambda x: float(np.interp(x, xs, ys))
