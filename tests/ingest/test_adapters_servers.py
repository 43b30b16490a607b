"""What each network server's sample says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ingest.adapters import parse
from ingest.times import settle
from telemetry.model import Event, Gateway, RawMessage, Uplink, UplinkFlag, hash_key

from .servers import BY_NAME, EXPECTED, NOW, THINGPARK_TIME, of_message, raw


def uplink(name: str, **changes: Any) -> Uplink:
    parsed = parse(raw(BY_NAME[name], **changes))
    assert isinstance(parsed, Uplink)
    return parsed


def event(name: str, **changes: Any) -> Event:
    parsed = parse(raw(BY_NAME[name], **changes))
    assert isinstance(parsed, Event)
    return parsed


@pytest.mark.parametrize("name", EXPECTED)
def test_uplink(name: str) -> None:
    assert uplink(name) == EXPECTED[name]


VIETNAM = timezone(timedelta(hours=8))
EVENTS: dict[str, tuple[str, str | None, datetime | None, dict[str, Any]]] = {
    "chirpstack_v3/status": (
        "status",
        "24e124136b502217",
        None,
        {
            "margin": 6,
            "externalPowerSource": False,
            "batteryLevelUnavailable": False,
            "batteryLevel": 75.5,
        },
    ),
    "chirpstack_v3/error": (
        "error",
        "24e124136b502217",
        None,
        {"type": "UPLINK_FCNT_RETRANSMISSION", "error": "frame-counter did not increment", "fCnt": 7887},
    ),
    "milesight_gateway/ack": (
        "ack",
        "24e124527f418093",
        datetime(2026, 3, 12, 6, 10, 30, tzinfo=UTC),
        {"acknowledged": True, "deviceID": 22, "fcnt": 4996, "gatewaySN": "6438F39254820003"},
    ),
    "milesight_gateway/error": (
        "error",
        "24e124527f418093",
        datetime(2026, 3, 12, 6, 10, 30, tzinfo=UTC),
        {"deviceID": 22, "error": "downlink error,device offline", "gatewaySN": "6438F39254820003"},
    ),
    "milesight_gateway/offline": (
        "offline",
        "24e124527f418093",
        datetime(2026, 3, 23, 10, 48, 19, tzinfo=VIETNAM),
        {"devAddr": "07812782", "deviceID": 22, "gatewaySN": "6438F39254820003", "status": "offline"},
    ),
    "actility_thingpark/notification_join": (
        "join",
        "000000000f1d8693",
        datetime(2020, 7, 9, 14, 6, 38, 490000, tzinfo=UTC),
        {
            "Lrcid": "00000065",
            "DevAddr": "0405F519",
            "CustomerID": "100000507",
            "FCntDn": 0,
            "Type": "join",
            "Var1": "",
            "Var2": "",
        },
    ),
    "actility_thingpark/notification_devstatusans": (
        "status",
        "000000000f1d8693",
        datetime(2020, 7, 9, 14, 6, 38, 490000, tzinfo=UTC),
        {
            "Lrcid": "00000065",
            "DevAddr": "0405F519",
            "CustomerID": "100000507",
            "FCntDn": 0,
            "Type": "devstatusans",
            "Var1": "127",
            "Var2": "-3",
            "batteryLevel": 50.0,
            "externalPowerSource": False,
            "margin": -3,
        },
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_event(name: str) -> None:
    got = event(name)
    kind, dev_eui, time, data = EVENTS[name]
    assert (got.kind, got.dev_eui, got.time, got.dedup_key) == (kind, dev_eui, time, of_message(name))
    assert {key: value for key, value in got.data.items() if key != "tags"} == data


def test_every_sample_is_checked_somewhere() -> None:
    elsewhere = {name for name in BY_NAME if name.startswith(("chirpstack_v4", "tts_v3"))}
    own = {"chirpstack_v3/rx_before_3_11", "everynet/uplink_duplicate"}
    assert set(BY_NAME) == elsewhere | own | set(EXPECTED) | set(EVENTS)


def test_chirpstack_v3_tells_one_frame_whichever_marshaler_brings_it() -> None:
    assert uplink("chirpstack_v3/up_json_v3").dedup_key == uplink("chirpstack_v3/up_json_protobuf").dedup_key


def test_chirpstack_v3_order_of_gateways_is_no_identity_but_a_new_transmission_is() -> None:
    first = BY_NAME["chirpstack_v3/up_json_v3"].body["rxInfo"][0]  # type: ignore[index]
    second = {
        **first,
        "gatewayID": "0404040404040404",
        "uplinkID": "11111111-6aba-4403-8285-229b8bcdd11d",
        "time": "2022-11-08T13:59:25.040000Z",
    }
    one = uplink("chirpstack_v3/up_json_v3", rxInfo=[first, second])
    other = uplink("chirpstack_v3/up_json_v3", rxInfo=[second, first])
    assert (one.dedup_key, one.time) == (other.dedup_key, other.time)
    assert one.time == datetime(2022, 11, 8, 13, 59, 25, 40000, tzinfo=UTC), "the first that heard it"
    again = uplink("chirpstack_v3/up_json_v3", rxInfo=[second])
    assert again.dedup_key not in (one.dedup_key, uplink("chirpstack_v3/up_json_v3").dedup_key)


def test_chirpstack_v3_gateway_that_never_learnt_the_time_does_not_date_the_frame() -> None:
    first = BY_NAME["chirpstack_v3/up_json_v3"].body["rxInfo"][0]  # type: ignore[index]
    lost = {**first, "time": "1970-01-01T00:00:12Z"}
    assert uplink("chirpstack_v3/up_json_v3", rxInfo=[lost, first]).time == datetime(
        2022, 11, 8, 13, 59, 25, 48445, tzinfo=UTC
    )
    assert uplink("chirpstack_v3/up_json_v3", rxInfo=[lost]).time is None


def test_chirpstack_v3_without_uplink_ids() -> None:
    sample = BY_NAME["chirpstack_v3/up_json_protobuf"]
    rx = [{k: v for k, v in sample.body["rxInfo"][0].items() if k != "uplinkID"}]  # type: ignore[index]
    dated = uplink(sample.name, rxInfo=rx)
    assert dated.dedup_key == hash_key(
        "chirpstack-v3",
        "up",
        "24e124136b502217",
        "10",
        "AXVcA2c0AQRoZQUAAA==",
        "2022-11-08T13:59:25.300112Z",
    )
    early = uplink("chirpstack_v3/rx_before_3_11")
    assert early.dedup_key == of_message("chirpstack_v3/rx_before_3_11")
    assert (early.network, early.f_cnt, early.flags) == ("chirpstack-v3", 10, UplinkFlag.ADR)


def test_chirpstack_v3_missing_lists_are_null() -> None:
    bare = uplink("chirpstack_v3/up_json_v3", rxInfo=None, txInfo=None, tags=None, data=None, object=None)
    assert (bare.payload, bare.gateways, bare.frequency, bare.time) == (b"", (), None, None)


def test_chirpstack_v3_simulated_and_confirmed() -> None:
    up = uplink("chirpstack_v3/up_json_protobuf", tags={"simulated": "true"}, confirmedUplink=True)
    assert up.flags == UplinkFlag.SIMULATED | UplinkFlag.CONFIRMED | UplinkFlag.ADR
    assert event("chirpstack_v3/status", tags={"simulated": "true"}).simulated


def test_chirpstack_v3_status_without_battery_is_not_an_empty_battery() -> None:
    told = event("chirpstack_v3/status", batteryLevelUnavailable=True, batteryLevel=0)
    assert told.data["batteryLevel"] is None


@pytest.mark.parametrize("ending", ["join", "ack", "txack", "error", "status", "location", "integration"])
def test_chirpstack_v3_events(ending: str) -> None:
    body = {"applicationID": "123", "devEUI": "JOEkE2tQIhc=", "publishedAt": "2022-11-08T13:59:25.300112Z"}
    topic = f"application/123/device/24e124136b502217/event/{ending}"
    got = parse(RawMessage(topic, json.dumps(body).encode(), NOW))
    assert isinstance(got, Event)
    assert (got.kind, got.dev_eui, got.network) == (ending, "24e124136b502217", "chirpstack-v3")
    assert got.time == datetime(2022, 11, 8, 13, 59, 25, 300112, tzinfo=UTC)


def test_thingpark_late_frame_keeps_its_time_and_a_single_lrr_need_not_be_a_list() -> None:
    sample = BY_NAME["actility_thingpark/up"]
    lrr = sample.body["DevEUI_uplink"]["Lrrs"]["Lrr"][0]  # type: ignore[index]
    late = uplink(sample.name, DevEUI_uplink__Late=1, DevEUI_uplink__Lrrs={"Lrr": lrr})
    assert late.time == THINGPARK_TIME
    assert late.gateways == EXPECTED[sample.name].gateways
    assert settle(late.time, late.ns_time, NOW)[0] == THINGPARK_TIME


def test_thingpark_only_the_best_gateways_place_is_told() -> None:
    heard = [{"Lrrid": "10001273", "LrrRSSI": -84}, {"Lrrid": "FF000001", "LrrRSSI": "-99.5"}]
    got = uplink("actility_thingpark/up", DevEUI_uplink__Lrrs={"Lrr": heard})
    assert [(g.rssi, g.latitude) for g in got.gateways] == [(-84.0, 47.934113), (-99.5, None)]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("DevEUI_location", "location"),
        ("DevEUI_downlink_Sent", "down/sent"),
        ("DevEUI_downlink_Rejected", "down/failed"),
        ("DevEUI_notification", "notification"),
    ],
)
def test_thingpark_reports(key: str, kind: str) -> None:
    body = {key: {"DevEUI": "0018B20000000BEE", "Time": "2024-12-17T10:16:55.911+01:00", "Type": "other"}}
    got = parse(RawMessage("thingpark/x", json.dumps(body).encode(), NOW))
    assert isinstance(got, Event)
    assert (got.kind, got.dev_eui, got.time) == (kind, "0018b20000000bee", THINGPARK_TIME)


@pytest.mark.parametrize(
    ("told", "level", "external"),
    [(0, None, True), (1, 100 / 254, False), (254, 100.0, False), (255, None, False)],
)
def test_thingpark_battery_of_a_status(told: int, level: float | None, external: bool) -> None:
    got = event("actility_thingpark/notification_devstatusans", DevEUI_notification__Var1=told)
    assert (got.data["batteryLevel"], got.data["externalPowerSource"]) == (level, external)


def test_loriots_two_messages_of_a_frame_are_one_uplink_and_the_next_frame_another() -> None:
    rx, gw = uplink("loriot/rx"), uplink("loriot/gw")
    assert (rx.dedup_key, rx.time, rx.ns_time, rx.payload) == (gw.dedup_key, gw.time, gw.ns_time, gw.payload)
    assert rx.dedup_key != uplink("loriot/rx", ts=1470850675434).dedup_key, "sent again, at another time"
    assert rx.dedup_key != uplink("loriot/rx", fcnt=2).dedup_key


@pytest.mark.parametrize(
    ("bat", "percent"), [(0, None), (1, 100 / 254), (127, 50.0), (255, None), (-1, None)]
)
def test_loriot_battery(bat: int, percent: float | None) -> None:
    assert uplink("loriot/rx", bat=bat).battery == percent


def test_loriot_other_commands_are_events() -> None:
    body = {"cmd": "txd", "EUI": "0102030405060708", "ts": 1470850675433, "seqdn": 3}
    got = parse(RawMessage("loriot/app/up", json.dumps(body).encode(), NOW))
    assert isinstance(got, Event)
    assert (got.kind, got.data, got.time) == ("txd", {"seqdn": 3}, EXPECTED["loriot/rx"].time)


def test_helium_seconds_of_older_versions_and_other_types() -> None:
    seconds = uplink("helium_console/up", reported_at=1586868546)
    assert seconds.time == datetime(2020, 4, 14, 12, 49, 6, tzinfo=UTC)
    join = event("helium_console/up", type="join")
    assert (join.kind, join.dev_eui, join.origin) == ("join", "1c29fbd1d2084e21", {"name": "Test Me"})


def test_aws_as_its_page_shows_it_and_as_it_sends_it() -> None:
    lorawan = "WirelessMetadata__LoRaWAN__"
    told = uplink(
        "aws_iot_lorawan/up",
        **{
            lorawan + "DevEui": "58a0cb0000202c99",
            lorawan + "FPort": None,
            lorawan + "Fport": 2,
            lorawan + "MType": "ConfirmedDataUp",
            lorawan + "ADR": True,
            lorawan + "Gateways": [{"GatewayEui": "80029CFFFE5CF1CC", "Snr": -7.5, "Rssi": -110}],
        },
    )
    assert (told.dev_eui, told.f_port) == ("58a0cb0000202c99", 2)
    assert told.flags == UplinkFlag.CONFIRMED | UplinkFlag.ADR
    assert told.gateways == (Gateway("80029cfffe5cf1cc", -110.0, -7.5),), "nothing to exchange here"


def test_milesight_numbers_its_applications() -> None:
    assert uplink("milesight_gateway/up", applicationID=1, applicationName="").origin["application"] == "1"


def test_milesight_join() -> None:
    body = {"applicationID": 1, "devEUI": "24e124527f418093", "devAddr": "0642fa41", "deviceName": "WT102"}
    got = parse(RawMessage("join", json.dumps(body).encode(), NOW))
    assert isinstance(got, Event)
    assert (got.kind, got.data, got.origin) == (
        "join",
        {"devAddr": "0642fa41"},
        {"name": "WT102", "application": "1"},
    )


def test_kerlink_base64_and_downlink_events() -> None:
    assert uplink("kerlink_wmc/dataUp", encodingType="BASE64", payload="AQI=").payload == b"\x01\x02"
    body = {"dataDownId": "5d23", "endDevice": {"devEui": "343737394A336F09"}, "status": "OK"}
    got = parse(RawMessage("wanesy/dataDownEvent", json.dumps(body).encode(), NOW))
    assert isinstance(got, Event)
    assert (got.kind, got.dev_eui, got.data["status"]) == ("down", "343737394a336f09", "OK")


def test_everynet_copies_of_other_gateways_are_events_and_a_repeated_frame_is_another_uplink() -> None:
    copy_ = event("everynet/uplink_duplicate")
    assert (copy_.kind, copy_.dev_eui) == ("up/duplicate", "00ee0100000079a0")
    assert copy_.data["meta"]["gateway"] == "b0fd0b7000fd0001"  # type: ignore[index]
    later = uplink("everynet/uplink", params__rx_time=1729859999.5)
    assert later.dedup_key != uplink("everynet/uplink").dedup_key
    moved = uplink("everynet/uplink", meta__time=1729855865.2)
    assert moved.dedup_key == uplink("everynet/uplink").dedup_key, "the same reception, delivered again"


def test_everynet_other_types_are_events() -> None:
    assert event("everynet/uplink", type="downlink_request").kind == "downlink_request"
