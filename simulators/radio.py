"""LoRa radio between a device and a gateway: path loss, noise, spreading factors, time on air."""

from __future__ import annotations

from math import log10

import numpy as np
from numpy.typing import NDArray

from .world.rain import Array

EIRP_DBM = 16.0
"""Most that a device may radiate in AS923 (LoRa Alliance RP002-1.0.4, section 2.11)."""

CHANNELS_HZ = tuple(921_400_000 + 200_000 * i for i in range(8))
"""AS923-2, Vietnam's variant: 921.4 and 921.6 MHz of RP002-1.0.4 section 2.11.2, and six more of the plan."""

JOIN_CHANNELS = 2
"""The first of them, which a device knows before its join-accept tells it the others."""

SNR_LIMIT_DB = {7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}
"""Lowest SNR that is demodulated, per spreading factor. Source: Semtech SX1276 datasheet, table 13."""

_BANDWIDTH_HZ = 125_000
_NOISE_FIGURE_DB = 6.0
NOISE_DBM = -174.0 + 10.0 * log10(_BANDWIDTH_HZ) + _NOISE_FIGURE_DB
_STRONGEST_SNR_DB = 13.5
_MARGIN_DB = 10.0
_FRAME_OVERHEAD = 13  # MHDR 1, FHDR 7, FPort 1, MIC 4


def distance_km(a: Array, b: Array) -> Array:
    """Great circle between places (…, 2) of latitude and longitude in degrees; haversine at 6371 km."""
    a, b = np.radians(a), np.radians(b)
    half = np.sin((b - a) / 2.0) ** 2
    h = half[..., 0] + np.cos(a[..., 0]) * np.cos(b[..., 0]) * half[..., 1]
    angle: Array = np.arcsin(np.sqrt(h))
    return 12742.0 * angle


def path_loss_db(km: Array) -> Array:
    """PL = 128.95 + 10·2.32·log10(d/1 km), measured at 868 MHz on land.

    Source: Petäjäjärvi et al. (2015), On the coverage of LPWANs, ITST; there with a shadowing of 7.8 dB.
    """
    loss: Array = 128.95 + 23.2 * np.log10(np.maximum(km, 0.05))
    return loss


def snr_db(rssi_dbm: Array) -> Array:
    """SNR over the thermal noise of 125 kHz at 6 dB noise figure; a receiver shows at most 13.5 dB."""
    return np.minimum(rssi_dbm - NOISE_DBM, _STRONGEST_SNR_DB)


def fastest(snr: Array) -> NDArray[np.int64]:
    """The lowest spreading factor that has 10 dB to spare, as ADR settles on; 12 where none has."""
    needed = np.array([limit + _MARGIN_DB for limit in SNR_LIMIT_DB.values()])
    enough = np.asarray(snr)[..., None] >= needed
    return np.where(enough.any(axis=-1), 7 + np.argmax(enough, axis=-1), 12)


def airtime_s(payload_size: NDArray[np.int64], spreading_factor: NDArray[np.int64]) -> Array:
    """Seconds on air of frames with that much application payload, 125 kHz, coding rate 4/5, with CRC.

    Source: Semtech AN1200.13, LoRa Modem Designer's Guide, section 4.
    """
    symbol = 2.0**spreading_factor / _BANDWIDTH_HZ
    slow = spreading_factor >= 11
    bits = 8 * (payload_size + _FRAME_OVERHEAD) - 4 * spreading_factor + 28 + 16
    symbols = 8 + np.maximum(np.ceil(bits / (4 * (spreading_factor - 2 * slow))) * 5, 0)
    airtime: Array = (8 + 4.25 + symbols) * symbol
    return airtime
