"""How `reading.tests` holds what tests found: two bits each, and below them the flag the reading came with.

NULL: nothing was found, and `quality` is that flag. The SQL function `base_flag` reads it likewise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import Check, Outcome
from ..model import Quality

NOTHING = -1
"""In numpy, NULL."""
_BASES = np.array([Quality.GOOD, Quality.SUSPECT, Quality.FAIL, Quality.NOT_EVALUATED], np.int16)
_BASE_CODES = np.zeros(10, np.int32)
_BASE_CODES[_BASES] = np.arange(4)
_PLACES = np.array([1 << (2 * check) for check in Check], np.int32)
_AT = {check: n for n, check in enumerate(Check)}

Flags = npt.NDArray[np.int16]
Tests = npt.NDArray[np.int32]
Outcomes = npt.NDArray[np.uint8]
"""Shape (n, number of checks), values of `Outcome`, columns in the order of `Check`."""


def base_flag(quality: npt.NDArray[Any], tests: npt.NDArray[Any]) -> Flags:
    """The flag each reading came with."""
    found: Flags = np.where(tests == NOTHING, quality, _BASES[tests & 3]).astype(np.int16)
    return found


def pack(base: npt.NDArray[Any], quality: npt.NDArray[Any], outcomes: Outcomes) -> Tests:
    """The column `tests`; `NOTHING` where nothing was found and the flag is the one it came with."""
    found = np.where(outcomes == Outcome.NOT_EVALUATED, 0, outcomes).astype(np.int32) @ _PLACES
    packed: Tests = np.where((found == 0) & (base == quality), NOTHING, found | _BASE_CODES[base])
    return packed.astype(np.int32)


def noted(base: Flags, restarted: npt.NDArray[np.bool_], overridden: npt.NDArray[np.bool_]) -> Tests:
    """The column `tests` of readings that came with these flags and that no test has looked at yet."""
    found: Tests = np.where(restarted, _PLACES[_AT[Check.RESTART]], 0) | _BASE_CODES[base]
    found |= np.where(overridden, _PLACES[_AT[Check.OVERRIDE]], 0)
    return found.astype(np.int32)


def restarted(tests: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Of increments, whether their counter began anew: who worked them out said so."""
    found: npt.NDArray[np.bool_] = (tests != NOTHING) & (tests & 3 * _PLACES[_AT[Check.RESTART]] != 0)
    return found


def unpack(tests: int | None) -> dict[Check, Outcome]:
    """What was found, by check; of what was passed or not evaluated there is nothing."""
    told = {check: Outcome((tests or 0) >> (2 * check) & 3) for check in Check}
    return {check: outcome for check, outcome in told.items() if outcome is not Outcome.PASS}
