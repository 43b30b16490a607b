"""From an arrival to messages on a broker: what the network server knows, and how it says it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from hashlib import blake2b
from uuid import UUID

import numpy as np

from telemetry.plugin import Fields

from . import radio
from .confirmed import Row
from .fleet import Fleet
from .frames import Arrival, gateway
from .members import Member, copied
from .message import Message
from .scenario import Scenario
from .servers import Format, Origin, Reception, Session, Transmission
from .servers.formats import FORMATS
from .stations import Station

When = Callable[[float], datetime]
PUBLISHED_AFTER = timedelta(milliseconds=260)
_STATUS_EVERY = 24


class Words:
    """All devices' network servers. `places` are theirs, (n, 2): latitude and longitude in degrees.

    `identity` sets this run's identifiers apart from those of all others; `fmt` puts all into one format.
    """

    def __init__(self, scenario: Scenario, fleet: Fleet, *, identity: str, fmt: Format | None) -> None:
        self._scenario = scenario
        self._fleet = fleet
        self._identity = identity
        self._fmt = fmt
        self._duplicates = scenario.network.duplicates
        self._gateways = [gateway(spec) for spec in scenario.gateways]
        self._origins: dict[int, Origin] = {}
        self._sessions: dict[int, tuple[int, Session]] = {}
        self._last = [-1] * len(fleet.eui)
        copies = scenario.copies
        own = np.array([_place(scenario.stations[spec.station]) for spec in fleet.specs])
        self.places = own[fleet.spec]
        for i in np.flatnonzero(fleet.copy).tolist():
            station = scenario.stations[fleet.specs[fleet.spec[i]].station]
            self.places[i] = _place(copied(station, int(fleet.copy[i]), copies))

    def of(self, arrival: Arrival, when: When) -> Iterator[Message]:
        """What the broker gets of an arrival: sometimes the same twice, and a `status` now and then.

        A frame that the server had before, or that is older than one it had, is not passed on.
        """
        frame = arrival.frame
        device = frame.device
        server = FORMATS[self._fmt or self._fleet.specs[self._fleet.spec[device]].network]
        if frame.joining:
            self._last[device] = -1
            self._sessions[device] = (frame.session, self._session(device, frame.session))
            sent, _ = self._transmission(arrival, when)
            yield Message(*server.join(sent), sent.published)
            return
        if self._sessions.get(device, (frame.session,))[0] != frame.session:
            return
        sent, luck = self._transmission(arrival, when)
        if frame.f_cnt <= self._last[device]:
            if server.log is not None:
                yield Message(*server.log(sent), sent.published)
            return
        self._last[device] = frame.f_cnt
        message = Message(*server.up(sent), sent.published)
        yield message
        if luck < self._duplicates:
            yield message
        if server.status is not None and frame.f_cnt % _STATUS_EVERY == 1:
            yield Message(*server.status(sent), sent.published)

    def recalled(self, device: int, rows: tuple[Row, ...], when: When | None) -> tuple[Fields, int, bytes]:
        """Fields, port and payload of remembered rows, stamped by the device's clock; 2001 without a wall's."""
        fleet = self._fleet
        stamped = (
            (fleet.clock(device, at, when(at).timestamp() if when else 1e9), values) for at, values in rows
        )
        return fleet.plan(device).records(stamped, fleet.specs[fleet.spec[device]].variables)

    def _transmission(self, arrival: Arrival, when: When) -> tuple[Transmission, float]:
        """And a number between 0 and 1 that is the message's luck."""
        frame = arrival.frame
        device = frame.device
        digest = blake2b(
            f"{self._identity}/{self._fleet.eui[device]}/{arrival.number}".encode(), digest_size=32
        ).digest()
        time, arrived = when(arrival.sent), when(arrival.at)
        counter = int(arrival.sent * 1e6) % (1 << 32)
        receptions = tuple(
            Reception(
                self._gateways[heard.gateway],
                heard.rssi,
                heard.snr,
                arrived + timedelta(milliseconds=20 + (digest[16] + 89 * n) % 70),
                int.from_bytes(digest[20:24], "big") ^ heard.gateway * 0x9E3779B9 & 0xFFFFFFFF,
                counter,
            )
            for n, heard in enumerate(arrival.heard)
        )
        fields, f_port, payload = frame.fields, frame.f_port, frame.payload
        if frame.rows:
            fields, f_port, payload = self.recalled(device, frame.rows, when)
        sent = Transmission(
            id=UUID(bytes=digest[:16], version=4).bytes,
            origin=self._origin(device),
            session=self._sessions[device][1] if device in self._sessions else self._first(device, frame.session),
            time=time,
            published=arrived + PUBLISHED_AFTER,
            nanoseconds=1 + int.from_bytes(digest[:2], "big") % 999,
            f_cnt=frame.f_cnt,
            f_port=f_port,
            payload=payload,
            fields=fields,
            channel=arrival.channel,
            frequency=radio.CHANNELS_HZ[arrival.channel],
            spreading_factor=arrival.spreading_factor,
            airtime_s=arrival.airtime_s,
            receptions=receptions,
            battery=arrival.charge,
            confirmed=self._fleet.specs[self._fleet.spec[device]].confirmed,
        )
        return sent, int.from_bytes(digest[24:28], "big") / 2**32

    def _origin(self, device: int) -> Origin:
        if (known := self._origins.get(device)) is None:
            spec = self._fleet.specs[self._fleet.spec[device]]
            member = Member(spec, int(self._fleet.copy[device]))
            type_ = self._scenario.device_types[spec.device_type]
            latitude, longitude = self.places[device].tolist()
            known = self._origins[device] = Origin(
                member.dev_eui,
                "02" + spec.dev_eui[2:8].ljust(14, "0"),
                member.name,
                type_.vendor,
                type_.model,
                latitude,
                longitude,
            )
        return known

    def _first(self, device: int, number: int) -> Session:
        self._sessions[device] = (number, self._session(device, number))
        return self._sessions[device][1]

    def _session(self, device: int, number: int) -> Session:
        digest = blake2b(
            f"{self._identity}/{self._fleet.eui[device]}/session {number}".encode(), digest_size=20
        ).digest()
        address = 0x2600_0000 | int.from_bytes(digest[:3], "big")
        return Session(f"{address:08x}", digest[4:])


def _place(station: Station) -> tuple[float, float]:
    return station.latitude, station.longitude
