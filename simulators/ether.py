"""From frames on the air to gateways that hear them: path loss, fading, collisions and outages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import radio
from .draws import Keys, keys, normal, pairs, uniform
from .network import GatewaySpec, NetworkSpec
from .truths import OutageSpec
from .world.rain import Array

_SHADOWING_DB = 5.0
_FADING_DB = 2.5
_CAPTURE_DB = 6.0

Flags = NDArray[np.bool_]


class Sent(NamedTuple):
    """Frames on the air, columns (f,); `number` counts a device's transmissions, times are world seconds."""

    device: NDArray[np.int64]
    number: NDArray[np.int64]
    begin_s: Array
    airtime_s: Array
    channel: NDArray[np.int64]
    spreading_factor: NDArray[np.int64]

    @property
    def end_s(self) -> Array:
        return self.begin_s + self.airtime_s

    def of(self, which: Flags) -> Sent:
        """Those of the frames."""
        return Sent(
            self.device[which],
            self.number[which],
            self.begin_s[which],
            self.airtime_s[which],
            self.channel[which],
            self.spreading_factor[which],
        )

    def and_(self, other: Sent) -> Sent:
        """These frames and others."""
        return Sent(
            np.concatenate([self.device, other.device]),
            np.concatenate([self.number, other.number]),
            np.concatenate([self.begin_s, other.begin_s]),
            np.concatenate([self.airtime_s, other.airtime_s]),
            np.concatenate([self.channel, other.channel]),
            np.concatenate([self.spreading_factor, other.spreading_factor]),
        )


class Heard(NamedTuple):
    """By frame and gateway, (f, g): strength in dBm, SNR in dB, and whether it was demodulated there."""

    rssi: Array
    snr: Array
    by: Flags

    def of(self, which: Flags) -> Heard:
        """Those of the frames."""
        return Heard(self.rssi[which], self.snr[which], self.by[which])


_NOTHING = np.empty(0)
_NO_INDEX = np.empty(0, dtype=np.int64)
NOTHING_SENT = Sent(_NO_INDEX, _NO_INDEX, _NOTHING, _NOTHING, _NO_INDEX, _NO_INDEX)


class Ether:
    """The air between devices at `places` ((n, 2): latitude, longitude in degrees) and the gateways.

    What stays is drawn by the keys `devices` (n,), what changes from frame to frame by `luck` (n,). Devices
    disturb only those of the same one of `parts` (n,).

    Mean signal: log-distance path loss with a shadowing per pair (5 dB) that stays; per frame it fades by
    2.5 dB more. Together about the 7.8 dB spread that `radio.path_loss_db`'s source measured. Of two frames
    on one channel and spreading factor at one time a gateway hears the one that is 6 dB stronger, or none:
    the capture threshold of Bor et al. (2016), Do LoRa low-power wide-area networks scale?, MSWiM.
    """

    def __init__(
        self,
        gateways: Sequence[GatewaySpec],
        network: NetworkSpec,
        outages: Sequence[OutageSpec],
        places: Array,
        devices: Keys,
        luck: Keys,
        parts: NDArray[np.int64],
        *,
        seed: int,
    ) -> None:
        self._network = network
        self._parts = parts
        self._luck = luck
        self._gateways = keys(seed, np.array([int(gateway.id, 16) for gateway in gateways], dtype=np.uint64))
        self._outages = [
            (outage, np.array([outage.gateways is None or g.id in outage.gateways for g in gateways]))
            for outage in sorted(outages, key=lambda outage: outage.begins_h)
        ]
        self.keeps = any(outage.backhaul for outage in outages)
        sites = np.array([(gateway.latitude, gateway.longitude) for gateway in gateways])
        gains = np.array([gateway.gain_db for gateway in gateways])
        self._mean = np.empty((len(places), len(gateways)), dtype=np.float32)
        for begin in range(0, len(places), 8192):
            part = slice(begin, begin + 8192)
            loss = radio.path_loss_db(radio.distance_km(places[part, None, :], sites[None, :, :]))
            shadow = _SHADOWING_DB * normal(pairs(devices[part], self._gateways), 0, "shadowing")
            self._mean[part] = radio.EIRP_DBM + gains - loss - shadow

    def settled(self) -> NDArray[np.int64]:
        """The spreading factor that ADR settles on, by device."""
        return radio.fastest(radio.snr_db(self._mean.max(axis=1)))

    def channels(
        self, device: NDArray[np.int64], number: NDArray[np.int64], joining: Flags
    ) -> NDArray[np.int64]:
        """A channel for each transmission; who has not joined knows the first two alone."""
        drawn = uniform(self._luck[device], number, "channel")
        return (drawn * np.where(joining, radio.JOIN_CHANNELS, len(radio.CHANNELS_HZ))).astype(np.int64)

    def carry(self, sent: Sent, before: Sent, before_rssi: Array) -> Heard:
        """What becomes of frames, among themselves and with those that were on the air `before`."""
        of = self._luck[sent.device]
        rssi = self._mean[sent.device] + _FADING_DB * normal(
            pairs(of, self._gateways), sent.number[:, None], "fading"
        )
        snr = np.round(4.0 * radio.snr_db(rssi)) / 4.0
        limits = np.array([radio.SNR_LIMIT_DB[sf] for sf in range(7, 13)])
        heard = snr >= limits[sent.spreading_factor - 7][:, None]
        heard &= (uniform(of, sent.number, "lost") >= self._network.loss)[:, None]
        heard &= ~self._clashing(sent, rssi, before, before_rssi)
        for outage, hit in self._outages:
            if not outage.backhaul:
                heard &= ~(_during(outage, sent.begin_s)[:, None] & hit)
        return Heard(rssi, snr, heard)

    def _clashing(self, sent: Sent, rssi: Array, before: Sent, before_rssi: Array) -> Flags:
        """Which frames another one drowns, by gateway (f, g)."""
        count = len(sent.device)
        begin = np.concatenate([sent.begin_s, before.begin_s])
        end = np.concatenate([sent.end_s, before.end_s])
        strength = np.concatenate([rssi, before_rssi])
        band = np.concatenate([self._band(sent), self._band(before)])
        drowned = np.zeros(strength.shape, dtype=np.bool_)
        order = np.lexsort((begin, band))
        for step in range(1, len(order)):
            first, second = order[:-step], order[step:]
            meeting = (band[first] == band[second]) & (begin[second] < end[first])
            if not meeting.any():
                break
            first, second = first[meeting], second[meeting]
            np.logical_or.at(drowned, first, strength[first] < strength[second] + _CAPTURE_DB)
            np.logical_or.at(drowned, second, strength[second] < strength[first] + _CAPTURE_DB)
        return drowned[:count]

    def _band(self, sent: Sent) -> NDArray[np.int64]:
        """What two frames must share to meet."""
        return (self._parts[sent.device] * 8 + sent.channel) * 16 + sent.spreading_factor

    def acknowledged(self, sent: Sent) -> Flags:
        """Whether the downlink that answers each frame would arrive."""
        return uniform(self._luck[sent.device], sent.number, "ack") >= self._network.loss

    def kept_until(self, gateway: int, at_s: float) -> float | None:
        """When a gateway without backhaul at `at_s` can deliver again; None where nothing keeps it."""
        until: float | None = None
        for outage, hit in self._outages:
            time = at_s if until is None else until
            if outage.backhaul and hit[gateway] and outage.begins_h * 3600.0 <= time < outage.ends_h * 3600.0:
                until = outage.ends_h * 3600.0
        return until


def _during(outage: OutageSpec, at_s: Array) -> Flags:
    return (at_s >= outage.begins_h * 3600.0) & (at_s < outage.ends_h * 3600.0)
