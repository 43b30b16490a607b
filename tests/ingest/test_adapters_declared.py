"""Servers that a file declares, and adapters that other distributions bring."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import adapters
from ingest.adapters import AdapterSettings, configure, parse
from ingest.adapters.declared import declared_adapter
from ingest.adapters.mapping import read_mappings
from ingest.adapters.plugins import load_adapters
from telemetry.errors import BadMessage, SettingsError
from telemetry.model import Gateway, RawMessage, Uplink, hash_key, message_key
from tests.docs.pages import blocks
from tests.samples import samples

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SERVER = """
[[server]]
name = "water-board"
topics = ["lora/+/up", "old/#"]
dev_eui = "$.device.eui"
payload = "$.frame.data"
payload_format = "hex"
identity = ["$.device.eui", "$.id"]
f_cnt = "$.frame.counter"
f_port = "$.frame.port"
dev_addr = "$.device.addr"
time = "$.frame.gatewayTime"
ns_time = "$.received"
time_format = "milliseconds"
frequency = "$.radio.mhz"
frequency_unit = "MHz"
spreading_factor = "$.radio.datr"
device_name = "$.device.name"
application = "$.project"

[server.gateways]
each = "$.radio.heard[?@.crc == true]"
id = "$.gw"
rssi = "$.rssi"
snr = "$.snr"
latitude = "$.pos[0]"
longitude = "$.pos[1]"
"""
BODY: dict[str, Any] = {
    "id": "f00d-1",
    "received": 1772444055801,
    "project": "Ho Tri An",
    "device": {"eui": "A8-40-41-00-01-02-03-04", "addr": "26011bda", "name": "Tri An 1"},
    "frame": {"counter": "1174", "port": 2.0, "data": "0CE4 0A00", "gatewayTime": 1772444055775},
    "radio": {
        "mhz": 921.4,
        "datr": "SF10BW125",
        "heard": [
            {"gw": "ac1f09fffe000001", "rssi": -91, "snr": "7.5", "crc": True, "pos": [11.1, 107.03]},
            {"gw": "bad", "rssi": -140, "crc": False},
            {"gw": "ac1f09fffe000002", "rssi": None, "snr": "none", "crc": True},
        ],
    },
}
TOPIC = "lora/tri-an-1/up"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    configure(AdapterSettings())


@pytest.fixture
def declare(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "servers.toml"
        path.write_text(text, encoding="utf-8")
        configure(AdapterSettings(adapters_file=str(path)))
        return path

    return write


def message(topic: str = TOPIC, **changes: Any) -> RawMessage:
    return RawMessage(topic, json.dumps({**BODY, **changes}).encode(), NOW)


def test_everything_that_can_be_mapped(declare: Any) -> None:
    declare(SERVER)
    assert parse(message()) == Uplink(
        dedup_key=hash_key("water-board", "up", b'"A8-40-41-00-01-02-03-04"', b'"f00d-1"'),
        dev_eui="a840410001020304",
        network="water-board",
        payload=bytes.fromhex("0ce40a00"),
        time=datetime(2026, 3, 2, 9, 34, 15, 775000, tzinfo=UTC),
        ns_time=datetime(2026, 3, 2, 9, 34, 15, 801000, tzinfo=UTC),
        f_cnt=1174,
        f_port=2,
        dev_addr="26011bda",
        spreading_factor=10,
        frequency=921_400_000,
        gateways=(
            Gateway("ac1f09fffe000001", -91.0, 7.5, None, 11.1, 107.03),
            Gateway("ac1f09fffe000002"),
        ),
        origin={"name": "Tri An 1", "application": "Ho Tri An"},
    )


MINIMAL = """
[[server]]
name = "small"
topics = ["#"]
dev_eui = "$.eui"
payload = "$.data"
"""


def test_the_least_that_must_be_mapped(declare: Any) -> None:
    declare(MINIMAL)
    raw = RawMessage("any/where", b'{"eui": "a840410001020304", "data": "AQI="}', NOW)
    assert parse(raw) == Uplink(
        dedup_key=message_key(raw),
        dev_eui="a840410001020304",
        network="small",
        payload=b"\x01\x02",
        time=None,
    )


@pytest.mark.parametrize(
    ("format_", "told"),
    [
        ("rfc3339", "2026-03-02T16:34:15.775+07:00"),
        ("seconds", 1772444055.775),
        ("milliseconds", "1772444055775"),
    ],
)
def test_times(declare: Any, format_: str, told: object) -> None:
    declare(f'{MINIMAL}time = "$.at"\ntime_format = "{format_}"\n')
    body = {"eui": "a840410001020304", "data": "", "at": told}
    got = parse(RawMessage("x", json.dumps(body).encode(), NOW))
    assert isinstance(got, Uplink)
    assert got.time == datetime(2026, 3, 2, 9, 34, 15, 775000, tzinfo=UTC)


def test_a_frame_without_the_id_is_known_by_its_message(declare: Any) -> None:
    declare(SERVER)
    without = message(id=None)
    assert parse(without).dedup_key == message_key(without)
    assert parse(message(project="x")).dedup_key == parse(message()).dedup_key
    assert parse(message(id="f00d-2")).dedup_key != parse(message()).dedup_key


def test_an_empty_payload_is_an_uplink_but_a_path_that_finds_nothing_is_not(declare: Any) -> None:
    declare(SERVER)
    for nothing in ("", None):
        got = parse(message(frame={**BODY["frame"], "data": nothing}))
        assert isinstance(got, Uplink)
        assert got.payload == b""
    with pytest.raises(BadMessage) as caught:
        parse(message(frame={}))
    assert (caught.value.reason, caught.value.field) == ("missing_field", "$['frame']['data']")


BAD = [
    ({"device": {}}, "missing_field", "$['device']['eui']"),
    ({"device": {"eui": "a84"}}, "bad_dev_eui", "$['device']['eui']"),
    ({"device": {"eui": ["a"]}}, "wrong_type", "$['device']['eui']"),
    ({"frame": {"data": "0CE"}}, "bad_hex", "$['frame']['data']"),
    ({"frame": {"data": "", "counter": -1}}, "out_of_range", "$['frame']['counter']"),
    ({"frame": {"data": "", "counter": 1.5}}, "wrong_type", "$['frame']['counter']"),
    ({"frame": {"data": "", "port": True}}, "wrong_type", "$['frame']['port']"),
    ({"frame": {"data": "", "port": 1e300}}, "out_of_range", "$['frame']['port']"),
    ({"frame": {"data": "", "gatewayTime": "then"}}, "wrong_type", "$['frame']['gatewayTime']"),
    ({"received": 1e300}, "bad_time", "$['received']"),
    ({"radio": {"mhz": "x"}}, "wrong_type", "$['radio']['mhz']"),
]


@pytest.mark.parametrize(("changes", "reason", "field"), BAD, ids=[f"{b[1]}-{i}" for i, b in enumerate(BAD)])
def test_bad_field_goes_by_its_path(declare: Any, changes: dict[str, Any], reason: str, field: str) -> None:
    declare(SERVER)
    with pytest.raises(BadMessage) as caught:
        parse(message(**changes))
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_topics(declare: Any) -> None:
    declare(SERVER)
    for taken in (TOPIC, "lora//up", "old", "old/a/b", "old/"):
        assert parse(message(taken)).network == "water-board"
    for other in ("lora/up", "lora/a/b/up", "lora/a/upper", "older", "xlora/a/up", "old\n"):
        with pytest.raises(BadMessage, match="no adapter knows"):
            parse(message(other))


def test_whoever_names_a_topic_means_it_and_other_topics_stay_as_they_were(declare: Any) -> None:
    up = {sample.name: sample for sample in samples("chirpstack_v4")}["chirpstack_v4/up_full"]
    declare(
        MINIMAL.replace('"#"', '"application/17c82e96-be03-4f38-aef3-f83d48582d97/#"').replace(
            "$.eui", "$.deviceInfo.devEui"
        )
    )
    assert parse(RawMessage(up.topic, up.payload, NOW)).network == "small"
    elsewhere = up.topic.replace("17c82e96", "00000000")
    assert parse(RawMessage(elsewhere, up.payload, NOW)).network == "chirpstack-v4"


@settings(deadline=None)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists) | st.binary()
)
def test_nothing_but_bad_message_comes_out(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "servers.toml"
    path.write_text(SERVER, encoding="utf-8")
    adapter = declared_adapter(read_mappings(path)[0])
    if isinstance(value, bytes):
        messages = [RawMessage(TOPIC, value, NOW)]
    else:
        messages = [message(**{key: value}) for key in BODY]
        messages += [message(frame={**BODY["frame"], key: value}) for key in BODY["frame"]]
    for raw in messages:
        with contextlib.suppress(BadMessage):
            assert isinstance(adapter.parse(raw), Uplink)


WRONG = [
    ("not toml [", "Mend the file"),
    ("", "server: Field required. Add server."),
    ("server = 3", "server 3: Input should be a valid tuple"),
    (MINIMAL.replace('dev_eui = "$.eui"', ""), "server 1 (small), dev_eui: Field required. Add dev_eui."),
    (
        MINIMAL.replace("$.eui", "eui"),
        "server 1 (small), dev_eui 'eui': is no JSONPath; write one such as $.device.eui",
    ),
    (
        MINIMAL.replace("$.eui", "$.a["),
        "server 1 (small), dev_eui '$.a[': is no JSONPath (unexpected end of query)",
    ),
    (MINIMAL.replace('"$.eui"', "7"), "server 1 (small), dev_eui 7: is no JSONPath"),
    (
        MINIMAL + 'payload_format = "octal"',
        "server 1 (small), payload_format 'octal': Input should be 'base64' or 'hex'",
    ),
    (
        MINIMAL + 'fcnt = "$.n"',
        "server 1 (small), fcnt '$.n': Extra inputs are not permitted. Remove it, or write one of",
    ),
    (MINIMAL.replace('"#"', '"a/#/b"'), "server 1 (small), topics.0 'a/#/b': is no MQTT topic filter"),
    (MINIMAL.replace('"#"', '"a+/b"'), "is no MQTT topic filter; write one such as lora/+/uplink"),
    (MINIMAL.replace('["#"]', "[]"), "topics"),
    (MINIMAL.replace("small", "Small Server"), "server 1 (Small Server), name 'Small Server'"),
    (MINIMAL.replace("small", "loriot"), "'loriot' is built in. Give the server another name."),
    (MINIMAL + MINIMAL, "two servers are named 'small'. Give each its own name."),
    (
        MINIMAL + '[server.gateways]\neach = "$.g[*]"\n',
        "server 1 (small), gateways.id: Field required. Add gateways.id.",
    ),
    (
        MINIMAL + '[server.gateways]\neach = "$.g[*]"\nid = "$.i"\nvolume = "$.v"\n',
        "gateways.volume '$.v': Extra inputs are not permitted. Remove it, or write one of each, id, lat",
    ),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[str(n) for n in range(len(WRONG))])
def test_a_wrong_file_is_refused_at_start(declare: Any, tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        declare(text)
    said = str(caught.value)
    assert said.startswith("QUANTRAC_ADAPTERS_FILE: ")
    assert "servers.toml" in said
    assert told in said
    assert "\n" not in said


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match="No such file"):
        configure(AdapterSettings(adapters_file="/nowhere/servers.toml"))


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    (example,) = blocks("how-to/other-servers.md", "toml")
    told, came = blocks("how-to/other-servers.md", "json")
    path = tmp_path / "servers.toml"
    path.write_text(example, encoding="utf-8")
    (server,) = read_mappings(path)
    raw = RawMessage("lora/tri-an-1/uplink", told.encode(), NOW)
    adapter = declared_adapter(server)
    assert adapter.matches(raw.topic, raw.payload)
    got = adapter.parse(raw)
    assert isinstance(got, Uplink)
    expected = json.loads(came)
    assert {
        "dev_eui": got.dev_eui,
        "f_cnt": got.f_cnt,
        "f_port": got.f_port,
        "payload": got.payload.hex(),
        "time": got.time.isoformat() if got.time else None,
        "frequency": got.frequency,
        "spreading_factor": got.spreading_factor,
        "gateways": [{"id": g.id, "rssi": g.rssi, "snr": g.snr} for g in got.gateways],
    } == expected


class _Foreign:
    name = "foreign"

    def matches(self, topic: str, payload: bytes) -> bool:
        return topic.startswith("foreign/")

    def parse(self, message: RawMessage) -> Any:
        if message.topic.endswith("/bad"):
            return {"no": "uplink"}
        return Uplink(
            dedup_key=message_key(message),
            dev_eui="a840410001020304",
            network="foreign",
            payload=b"",
            time=None,
        )


ADAPTER = _Foreign()
NOT_ONE = object()


def _entry(name: str, attribute: str) -> EntryPoint:
    return EntryPoint(name=name, value=f"{__name__}:{attribute}", group="quantrac.adapters")


def test_adapters_of_other_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        _entry("foreign", "ADAPTER"),
        _entry("loriot", "ADAPTER"),
        _entry("other", "ADAPTER"),
        _entry("nothing", "NOT_ONE"),
        _entry("gone", "MISSING"),
    ]
    found = load_adapters(["loriot"], entries)
    assert [adapter.name for adapter in found.adapters] == ["foreign"]
    problems = "\n".join(found.problems)
    for told in (
        "adapter 'loriot'", "has this name already",
        "its name is 'foreign'", "adapter 'nothing'", "needs matches(topic, payload)", "adapter 'gone'",
    ):  # fmt: skip
        assert told in problems
    monkeypatch.setattr(adapters, "_in_use", (*adapters.ADAPTERS, *found.adapters))
    assert parse(RawMessage("foreign/up", b"\x00", NOW)).network == "foreign"
    with pytest.raises(BadMessage, match="adapter foreign gave a dict"):
        parse(RawMessage("foreign/bad", b"\x00", NOW))
