"""What the simulated network servers say is read by the adapters of the real ones, and marked all the way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from ingest.adapters import parse
from simulators.servers import Downlink, Format, Said, Transmission
from simulators.servers.formats import FORMATS
from telemetry.model import Event, Gateway, RawMessage, Uplink, UplinkFlag, message_key
from tests.ingest.store import adopt, registry, writer
from tests.transmissions import AT_GNSS, INDOORS, TIME, heard, transmission

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EUI = "24e124136b502217"
NETWORKS: dict[Format, str] = {
    "chirpstack-v4": "chirpstack-v4",
    "chirpstack-v4.0": "chirpstack-v4",
    "chirpstack-v4-protobuf": "chirpstack-v4",
    "chirpstack-v3": "chirpstack-v3",
    "tts-v3": "tts-v3",
}
TELLS_CONFIRMED = set(NETWORKS) - {"chirpstack-v3"}
TELLS_ADR = set(NETWORKS) - {"tts-v3"}
ALL = pytest.mark.parametrize("format_", list(NETWORKS))


def read(said: Said | None) -> Uplink | Event:
    assert said is not None
    return parse(RawMessage(*said, NOW))


def uplink(format_: Format, sent: Transmission) -> Uplink:
    got = read(FORMATS[format_].up(sent))
    assert isinstance(got, Uplink)
    return got


def test_every_format_is_read_here() -> None:
    assert FORMATS.keys() == NETWORKS.keys()


@ALL
@pytest.mark.parametrize("confirmed", [True, False])
def test_an_uplink_comes_back_as_it_was_sent(format_: Format, confirmed: bool) -> None:
    sent = transmission(confirmed=confirmed, adr=not confirmed)
    got = uplink(format_, sent)
    flags = UplinkFlag.SIMULATED
    if confirmed and format_ in TELLS_CONFIRMED:
        flags |= UplinkFlag.CONFIRMED
    if not confirmed and format_ in TELLS_ADR:
        flags |= UplinkFlag.ADR
    place = (10.9, 106.9) if format_ == "tts-v3" else (None, None)
    assert (got.network, got.dev_eui, got.flags) == (NETWORKS[format_], EUI, flags)
    assert (got.f_cnt, got.f_port, got.payload) == (sent.f_cnt, sent.f_port, sent.payload)
    assert got.time == TIME
    assert got.frequency == 923_400_000
    assert got.gateways == (
        Gateway(AT_GNSS.id, -71.0, 10.5, TIME, 10.9512, 106.8225),
        Gateway(INDOORS.id, -118.0, -7.25, None, *place),
    )
    if format_ != "chirpstack-v3":
        assert (got.dev_addr, got.spreading_factor) == ("260b1c2d", 9)
    if format_ not in ("chirpstack-v3", "chirpstack-v4.0"):
        served = timedelta(milliseconds=46 if format_ == "tts-v3" else 26)
        assert got.ns_time == TIME + served


@ALL
def test_what_is_zero_or_left_out_comes_back_as_zero(format_: Format) -> None:
    sent = transmission(
        f_cnt=0, payload=b"", fields={}, channel=0, adr=False, spreading_factor=12, battery=0.0,
        receptions=(heard(AT_GNSS, 0, 0.0, 26, 1),),
    )  # fmt: skip
    got = uplink(format_, sent)
    assert (got.f_cnt, got.payload, got.flags) == (0, b"", UplinkFlag.SIMULATED)
    assert (got.gateways[0].rssi, got.gateways[0].snr) == (0.0, 0.0)


@ALL
def test_another_frame_is_another_uplink_and_a_copy_is_not(format_: Format) -> None:
    first, again = uplink(format_, transmission()), uplink(format_, transmission())
    other = uplink(format_, transmission(id=bytes(range(1, 17)), published=TIME, f_cnt=1175))
    assert first.dedup_key == again.dedup_key != other.dedup_key


def test_protobuf_tells_what_json_tells() -> None:
    json, binary = FORMATS["chirpstack-v4"], FORMATS["chirpstack-v4-protobuf"]
    sent, downlink = transmission(confirmed=True), Downlink(EUI, 85, b"\xff\x03\xb0\x04", True, "a-name")
    assert json.up(sent)[0] == binary.up(sent)[0]
    for event in ("up", "join", "status"):
        assert read(getattr(binary, event)(sent)) == read(getattr(json, event)(sent))
    assert read(binary.ack(sent, downlink, 3)) == read(json.ack(sent, downlink, 3))
    assert json.log
    assert binary.log
    in_json, in_binary = read(json.log(sent)), read(binary.log(sent))
    key = message_key(RawMessage(*binary.log(sent), NOW))
    assert in_binary == msgspec.structs.replace(in_json, dedup_key=key)


@ALL
def test_events_are_read_and_marked_simulated(format_: Format) -> None:
    server, sent = FORMATS[format_], transmission()
    told = {"join": server.join(sent), "ack": server.ack(sent, Downlink(EUI, 85, b"\x01", True), 3)}
    if server.status:
        told["status"] = server.status(sent)
    if server.log:
        told["log"] = server.log(sent)
    kinds = {}
    for name, said in told.items():
        event = read(said)
        assert isinstance(event, Event)
        assert (event.dev_eui, event.network, event.simulated) == (EUI, NETWORKS[format_], True)
        kinds[name] = event.kind
        if name == "status":
            assert event.data["batteryLevel"] == pytest.approx(90.15748)
    of_server = {"tts-v3": {"ack": "down/ack"}, "chirpstack-v3": {"log": "error"}}.get(format_, {})
    assert kinds == {name: of_server.get(name, name) for name in told}


@ALL
def test_a_frame_that_no_gateway_with_a_clock_heard(format_: Format) -> None:
    got = uplink(format_, transmission(receptions=(heard(INDOORS, -118, -7.25, 37, 22_817),)))
    of_server = {"chirpstack-v3": None, "tts-v3": TIME}
    assert got.time == of_server.get(format_, TIME + timedelta(milliseconds=37))


def test_the_store_knows_what_is_simulated(
    database: psycopg.Connection[dict[str, Any]], database_url: str
) -> None:
    """A device that appears with such frames is simulated, and a real one gets no readings from them."""
    messages = []
    for number, server in enumerate(FORMATS.values()):
        sent = transmission()
        origin = msgspec.structs.replace(sent.origin, dev_eui=f"{number:016x}")
        sent = msgspec.structs.replace(sent, origin=origin, id=bytes([number] * 16))
        told = [server.up(sent), server.join(sent), server.ack(sent, Downlink(EUI, 85, b"", True), 3)]
        told += [event(sent) for event in (server.status, server.log) if event]
        messages += [RawMessage(*said, TIME + timedelta(seconds=1)) for said in told]
    adopt(database, f"{0:016x}", "says")
    with writer(database_url, registry(says=lambda: {"x": 1.0})) as commit:
        assert commit(*messages).written == (len(FORMATS), 0, len(messages) - len(FORMATS), 0)
    flags = database.execute("SELECT DISTINCT flags & 1 AS mark FROM uplink").fetchall()
    events = database.execute("SELECT DISTINCT data ->> 'simulated' AS mark FROM event").fetchall()
    devices = database.execute("SELECT simulated FROM device ORDER BY dev_eui").fetchall()
    assert (flags, events) == ([{"mark": 1}], [{"mark": "true"}])
    assert [row["simulated"] for row in devices] == [False, *[True] * (len(FORMATS) - 1)]
