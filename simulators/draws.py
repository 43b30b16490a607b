"""Random numbers by name: each is a function of what it is for, never of what was drawn before it.

So a device, a gateway or a frame more changes no other's luck, and the order of asking does not matter.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from .world.rain import Array

Keys = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def keys(seed: int | str, names: NDArray[np.uint64]) -> Keys:
    """A key for each of `names` (n,), such as EUIs, under a seed."""
    return _mix(names ^ _lane(f"seed {seed}"))


def uniform(of: Keys, number: NDArray[np.int64] | int, what: str) -> Array:
    """Draw `number` for `what` of each key, evenly from [0, 1); shapes broadcast.

    The finalizer of SplitMix64 over a counter. Source: Steele, Lea & Flood (2014), Fast splittable
    pseudorandom number generators, OOPSLA.
    """
    counted = np.asarray(number).astype(np.uint64) * _GOLDEN
    bits = _mix(_mix(of + counted) ^ _lane(what))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(of: Keys, number: NDArray[np.int64] | int, what: str) -> Array:
    """As `uniform`, with mean 0 and standard deviation 1. Source: Box & Muller (1958)."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(of, number, what)))
    deviate: Array = radius * np.cos(2.0 * np.pi * uniform(of, number, f"angle of {what}"))
    return deviate


def pairs(of: Keys, others: Keys) -> Keys:
    """A key for each pair, shape (n, m)."""
    return _mix(of[:, None] ^ _mix(others + _GOLDEN)[None, :])


def _mix(z: Keys) -> Keys:
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


@cache
def _lane(what: str) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(what.encode(), digest_size=8).digest(), "big"))
