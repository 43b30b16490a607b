"""Data rates: how fast each device sends, as its network server and its losses tell it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import radio
from .ether import Flags, Heard

JOIN_SF = 10
"""Devices join in AS923 at DR2 (RP002-1.0.4, section 2.11.3)."""

_AFTER = 20
_STEP_AFTER = 32  # ADR_ACK_DELAY of RP002-1.0.4, section 2.4
_LOST_AFTER = 64 + _STEP_AFTER  # ADR_ACK_LIMIT, ibid.


class DataRates:
    """The network server's adaptive data rate, by device: `spreading_factor` (n,).

    Of twenty frames the best SNR decides whether a device may send faster, with 10 dB to spare (Semtech's
    algorithm, as network servers have it). Who is not heard for 96 frames sends slower, and slower again
    after each 32 more, as the LoRaWAN specification tells it to.
    """

    def __init__(self, spreading_factor: NDArray[np.int64]) -> None:
        self.spreading_factor = spreading_factor
        self._best = np.full(len(spreading_factor), -np.inf)
        self._count = np.zeros(len(spreading_factor), dtype=np.int64)
        self._unheard = np.zeros(len(spreading_factor), dtype=np.int64)

    def rejoin(self, device: NDArray[np.int64], joined: Flags) -> None:
        """After a join begin anew; after one that failed, try it slower."""
        slower = np.minimum(self.spreading_factor[device] + 1, 12)
        self.spreading_factor[device] = np.where(joined, self.spreading_factor[device], slower)
        self._best[device] = -np.inf
        self._count[device] = self._unheard[device] = 0

    def follow(self, device: NDArray[np.int64], heard: Heard) -> None:
        """After frames of `device`, each of another."""
        best = np.where(heard.by, heard.snr, -np.inf).max(axis=1, initial=-np.inf)
        arrived = best > -np.inf
        self._unheard[device] = np.where(arrived, 0, self._unheard[device] + 1)
        self._best[device] = np.maximum(self._best[device], best)
        self._count[device] += arrived
        ready = device[self._count[device] >= _AFTER]
        settled = radio.fastest(self._best[ready])
        self.spreading_factor[ready] = np.minimum(self.spreading_factor[ready], settled)
        self._best[ready], self._count[ready] = -np.inf, 0
        lost = device[self._unheard[device] >= _LOST_AFTER]
        self.spreading_factor[lost] = np.minimum(self.spreading_factor[lost] + 1, 12)
        self._unheard[lost] = _LOST_AFTER - _STEP_AFTER
