"""From an arrival to messages on a broker: what the network server knows, and how it says it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import structlog

from telemetry.plugin import Fields

from . import radio
from .confirmed import Row
from .downlinks import Mailbox
from .fleet import Fleet
from .frames import Arrival, gateway
from .members import Member, copied
from .message import Message
from .orders import obey
from .scenario import Scenario
from .servers import Downlink, Format, Origin, Reception, Server, Session, Transmission
from .servers.formats import FORMATS
from .stations import Station

_log = structlog.get_logger(__name__)

When = Callable[[float], datetime]
PUBLISHED_AFTER = timedelta(milliseconds=260)
_STATUS_EVERY = 24
_BACKHAUL = [timedelta(milliseconds=20 + n) for n in range(70)]
_WORD = 0xFFFFFFFF
_ODD = 0x9E3779B9


class _Known(NamedTuple):
    """What stays the same of a device."""

    server: Server
    origin: Origin
    name: bytes
    confirmed: bool


class Words:
    """All devices' network servers. `places` are theirs, (n, 2): latitude and longitude in degrees.

    `identity` sets this run's identifiers apart from those of all others; `fmt` puts all into one format.
    What is in `mailbox` goes down to its device after that's next uplink, and is obeyed from the one after.
    """

    def __init__(self, scenario: Scenario, fleet: Fleet, *, identity: str, fmt: Format | None) -> None:
        self._scenario = scenario
        self._fleet = fleet
        self._identity = identity
        self._fmt = fmt
        self._duplicates = scenario.network.duplicates
        self._gateways = [gateway(spec) for spec in scenario.gateways]
        self._known: dict[int, _Known] = {}
        self._sessions: dict[int, tuple[int, Session]] = {}
        self._last = [-1] * len(fleet.eui)
        self.mailbox = Mailbox()
        self._downlinks: dict[int, int] = {}
        self._to_acknowledge: dict[int, tuple[Downlink, int]] = {}
        own = np.array([_place(scenario.stations[spec.station]) for spec in fleet.specs])
        self.places = own[fleet.spec]
        for i in np.flatnonzero(fleet.copy).tolist():
            station = scenario.stations[fleet.specs[fleet.spec[i]].station]
            self.places[i] = _place(copied(station, int(fleet.copy[i]), scenario.copies))

    def of(self, arrival: Arrival, when: When) -> Iterator[Message]:
        """What the broker gets of an arrival: sometimes the same twice, and a `status` now and then.

        A frame that the server had before, or that is older than one it had, is not passed on.
        """
        frame = arrival.frame
        device = frame.device
        known = self._known.get(device) or self._get_to_know(device)
        if frame.joining or device not in self._sessions:
            self._sessions[device] = (frame.session, self._session(known, frame.session))
            self._last[device] = -1
        number, session = self._sessions[device]
        if number != frame.session:
            return
        sent, luck = self._transmission(arrival, known, session, when)
        server = known.server
        if frame.joining:
            yield Message(*server.join(sent), sent.published)
        elif frame.f_cnt > self._last[device]:
            self._last[device] = frame.f_cnt
            message = Message(*server.up(sent), sent.published)
            yield message
            if luck < self._duplicates:
                yield message
            if server.status is not None and frame.f_cnt % _STATUS_EVERY == 1:
                yield Message(*server.status(sent), sent.published)
            if arrival.at == arrival.sent and (self.mailbox or self._to_acknowledge):
                yield from self._answer(device, known, sent)
        elif server.log is not None:
            yield Message(*server.log(sent), sent.published)

    def recalled(self, device: int, rows: tuple[Row, ...], when: When | None) -> tuple[Fields, int, bytes]:
        """Fields, port and payload of remembered rows, by the device's clock; without `when` of 2001."""
        fleet = self._fleet
        stamped = (
            (fleet.clock(device, at, when(at).timestamp() if when else 1e9), values) for at, values in rows
        )
        return fleet.plan(device).records(stamped, fleet.specs[fleet.spec[device]].variables)

    def _transmission(
        self, arrival: Arrival, known: _Known, session: Session, when: When
    ) -> tuple[Transmission, float]:
        """And a number between 0 and 1 that is the message's luck."""
        frame, sent, at = arrival.frame, arrival.sent, arrival.at
        digest = blake2b(known.name + arrival.number.to_bytes(8, "big"), digest_size=28).digest()
        time = when(sent)
        arrived = time if at == sent else when(at)
        counter, ticket, soon = int(sent * 1e6) & _WORD, int.from_bytes(digest[16:20], "big"), digest[20]
        receptions = [
            Reception(
                self._gateways[heard.gateway],
                heard.rssi,
                heard.snr,
                arrived + _BACKHAUL[(soon + 89 * heard.gateway) % len(_BACKHAUL)],
                (ticket + heard.gateway * _ODD) & _WORD,
                counter,
            )
            for heard in arrival.heard
        ]
        fields, f_port, payload = frame.fields, frame.f_port, frame.payload
        if frame.rows:
            fields, f_port, payload = self.recalled(frame.device, frame.rows, when)
        transmission = Transmission(
            digest[:16],
            known.origin,
            session,
            time,
            arrived + PUBLISHED_AFTER,
            1 + int.from_bytes(digest[21:23], "big") % 999,
            frame.f_cnt,
            f_port,
            payload,
            fields,
            arrival.channel,
            radio.CHANNELS_HZ[arrival.channel],
            arrival.spreading_factor,
            arrival.airtime_s,
            tuple(receptions),
            arrival.charge,
            known.confirmed,
        )
        return transmission, int.from_bytes(digest[24:28], "big") / 2**32

    def _answer(self, device: int, known: _Known, sent: Transmission) -> Iterator[Message]:
        """After an uplink, which acknowledges what it has to: the next of the device's downlinks."""
        if waiting := self._to_acknowledge.pop(device, None):
            yield Message(*known.server.ack(sent, *waiting), sent.published)
        if (downlink := self.mailbox.take(known.origin.dev_eui)) is None:
            return
        number = self._downlinks[device] = self._downlinks.get(device, -1) + 1
        if downlink.confirmed:
            self._to_acknowledge[device] = (downlink, number)
        order = obey(self._fleet.plan(device).codec.id, downlink.f_port, downlink.payload)
        if order is not None and order.interval_s is not None:
            self._fleet.interval[device] = order.interval_s
        if order is not None and order.siren is not None:
            self._fleet.siren[device] = order.siren
        _log.info("downlink", dev_eui=known.origin.dev_eui, f_port=downlink.f_port, order=order)

    def _get_to_know(self, device: int) -> _Known:
        spec = self._fleet.specs[self._fleet.spec[device]]
        member = Member(spec, int(self._fleet.copy[device]))
        type_ = self._scenario.device_types[spec.device_type]
        latitude, longitude = self.places[device].tolist()
        join_eui = "02" + spec.dev_eui[2:8].ljust(14, "0")
        origin = Origin(member.dev_eui, join_eui, member.name, type_.vendor, type_.model, latitude, longitude)
        name = blake2b(f"{self._identity}/{member.dev_eui}".encode(), digest_size=16).digest()
        known = _Known(FORMATS[self._fmt or spec.network], origin, name, spec.confirmed)
        self._known[device] = known
        return known

    def _session(self, known: _Known, number: int) -> Session:
        digest = blake2b(known.name + b"session" + number.to_bytes(8, "big"), digest_size=20).digest()
        address = 0x2600_0000 | int.from_bytes(digest[:3], "big")
        return Session(f"{address:08x}", digest[4:])


def _place(station: Station) -> tuple[float, float]:
    return station.latitude, station.longitude
