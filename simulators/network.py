"""From a frame on the air to messages on a broker: gateways, shadowing, loss, servers, duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b

import numpy as np
from pydantic import Field

from . import radio
from .devices import Device, Frame
from .message import Message
from .servers import Format, Gateway, Origin, Reception, Said, Session, Transmission
from .servers.formats import FORMATS
from .stations import Station
from .yamlfile import Model

_SHADOWING_DB = 5.0
_FADING_DB = 2.5
PUBLISHED_AFTER = timedelta(milliseconds=260)
_STATUS_EVERY = 24


class GatewaySpec(Model):
    """A gateway of a scenario; `gain_db` is what antenna and mast gain over the measured path loss."""

    id: str = Field(pattern="^[0-9a-f]{16}$")
    name: str = Field(min_length=1)
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    altitude_m: float = 0.0
    gnss: bool = True
    gain_db: float = 12.0


class NetworkSpec(Model):
    """Shares of frames that are lost on the air besides weak ones, and of messages delivered twice."""

    loss: float = Field(default=0.01, ge=0, lt=1)
    duplicates: float = Field(default=0.02, ge=0, le=1)


class Link:
    """One device's way to its network server.

    Mean signal: log-distance path loss with a shadowing per gateway (5 dB) that stays; per frame it fades
    by 2.5 dB more. Together about the 7.8 dB spread that `radio.path_loss_db`'s source measured.
    """

    def __init__(
        self,
        device: Device,
        station: Station,
        gateways: Sequence[GatewaySpec],
        network: NetworkSpec,
        *,
        seed: int,
        run: str,
        fmt: Format | None = None,
    ) -> None:
        self._device = device
        self._network = network
        self._identity = f"{seed}/{run}/{device.spec.dev_eui}"
        self._said = 0
        self._server = FORMATS[fmt or device.spec.network]
        self._origin = Origin(
            device.spec.dev_eui,
            "02" + device.spec.dev_eui[2:8].ljust(14, "0"),
            device.spec.name,
            device.type.vendor,
            device.type.model,
            station.latitude,
            station.longitude,
        )
        here = (station.latitude, station.longitude)
        self._heard: list[tuple[Gateway, float]] = []
        for spec in gateways:
            loss = radio.path_loss_db(radio.distance_km(here, (spec.latitude, spec.longitude)))
            shadow = _shadowing(seed, device.spec.dev_eui, spec.id)
            gateway = Gateway(spec.id, spec.name, spec.latitude, spec.longitude, spec.altitude_m, spec.gnss)
            self._heard.append((gateway, radio.EIRP_DBM + spec.gain_db - loss - shadow))
        self.spreading_factor = radio.choose_spreading_factor([radio.snr_db(rssi) for _, rssi in self._heard])

    def join(self, time: datetime) -> Iterator[Message]:
        """The event of a join-accept."""
        sent = self._transmission(Frame(0, 0, b"", {}), self._device.session, time, 0, ())
        yield self._message(sent, self._server.join(sent))

    def carry(self, frame: Frame, time: datetime) -> Iterator[Message]:
        """What the broker gets of a frame sent at `time`: nothing when lost, the same twice now and then.

        ChirpStack also says a `status` now and then.
        """
        rng = self._device.rng
        channel = int(rng.integers(len(radio.CHANNELS_HZ)))
        lost, twice = rng.random(2)
        receptions = self._receptions(time)
        if lost < self._network.loss or not receptions:
            return
        sent = self._transmission(frame, self._device.session, time, channel, receptions)
        message = self._message(sent, self._server.up(sent))
        yield message
        if twice < self._network.duplicates:
            yield message
        if self._server.status and frame.f_cnt % _STATUS_EVERY == 1:
            yield self._message(sent, self._server.status(sent))

    def _receptions(self, time: datetime) -> tuple[Reception, ...]:
        rng = self._device.rng
        found = []
        limit = radio.SNR_LIMIT_DB[self.spreading_factor]
        for gateway, mean in self._heard:
            rssi = mean + float(rng.normal(0.0, _FADING_DB))
            backhaul_ms, uplink_id = int(rng.integers(20, 90)), int(rng.integers(1, 1 << 32))
            snr = round(radio.snr_db(rssi) * 4) / 4
            if snr >= limit:
                ns_time = time + timedelta(milliseconds=backhaul_ms)
                counter = int(time.timestamp() * 1e6) % (1 << 32)
                found.append(Reception(gateway, round(rssi), snr, ns_time, uplink_id, counter))
        return tuple(sorted(found, key=lambda reception: -reception.snr))

    def _transmission(
        self,
        frame: Frame,
        session: Session,
        time: datetime,
        channel: int,
        receptions: tuple[Reception, ...],
    ) -> Transmission:
        digest = blake2b(f"{self._identity}/{self._said}".encode(), digest_size=16).digest()
        self._said += 1
        return Transmission(
            id=digest,
            origin=self._origin,
            session=session,
            time=time,
            published=time + PUBLISHED_AFTER,
            nanoseconds=1 + int.from_bytes(digest[:2], "big") % 999,
            f_cnt=frame.f_cnt,
            f_port=frame.f_port,
            payload=frame.payload,
            fields=frame.fields,
            channel=channel,
            frequency=radio.CHANNELS_HZ[channel],
            spreading_factor=self.spreading_factor,
            airtime_s=radio.airtime_s(len(frame.payload), self.spreading_factor),
            receptions=receptions,
            battery=self._device.battery,
        )

    @staticmethod
    def _message(sent: Transmission, said: Said) -> Message:
        topic, body = said
        return Message(topic, body, sent.published)


def _shadowing(seed: int, dev_eui: str, gateway: str) -> float:
    """Of one pair of places, the same in every scenario."""
    rng = np.random.Generator(np.random.PCG64([seed, int(dev_eui, 16), int(gateway, 16)]))
    return float(rng.normal(0.0, _SHADOWING_DB))
