"""The network servers' samples, to be changed, and the uplinks they are, written out by hand."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

from telemetry.model import Gateway, RawMessage, Uplink, UplinkFlag, hash_key, message_key
from tests.samples import Sample, formats, samples

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BY_NAME = {sample.name: sample for sample in samples(*formats())}
THINGPARK_TIME = datetime(2024, 12, 17, 9, 16, 55, 911000, tzinfo=UTC)


def raw(sample: Sample, **changes: Any) -> RawMessage:
    """The sample's message; a change ``a__b=1`` sets b inside a."""
    if not changes:
        return RawMessage(sample.topic, sample.payload, NOW)
    body: Any = copy.deepcopy(sample.body)
    for path, value in changes.items():
        *way, last = path.split("__")
        place = body
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        place[last] = value
    return RawMessage(sample.topic, json.dumps(body).encode(), NOW)


def of_message(name: str) -> bytes:
    """The identity of a message that carries none: the hash of topic and bytes."""
    return message_key(raw(BY_NAME[name]))


EXPECTED = {
    "chirpstack_v3/up_json_v3": Uplink(
        dedup_key=hash_key(
            "chirpstack-v3", "up", "24e124136b502217", "10", "8e1321f06aba44038285229b8bcdd11d"
        ),
        dev_eui="24e124136b502217",
        network="chirpstack-v3",
        payload=bytes.fromhex("01755c03673401046865050000"),
        time=datetime(2022, 11, 8, 13, 59, 25, 48445, tzinfo=UTC),
        f_cnt=10,
        f_port=85,
        flags=UplinkFlag.ADR,
        frequency=868_100_000,
        gateways=(
            Gateway(
                "0303030303030303",
                -48.0,
                9.0,
                datetime(2022, 11, 8, 13, 59, 25, 48445, tzinfo=UTC),
                52.3740364,
                4.9144401,
            ),
        ),
        origin={"name": "fridge-07", "application": "cold-chain", "profile": "EM300"},
    ),
    "chirpstack_v3/up_json_protobuf": Uplink(
        dedup_key=hash_key(
            "chirpstack-v3", "up", "24e124136b502217", "10", "8e1321f06aba44038285229b8bcdd11d"
        ),
        dev_eui="24e124136b502217",
        network="chirpstack-v3",
        payload=bytes.fromhex("01755c03673401046865050000"),
        time=None,
        ns_time=datetime(2022, 11, 8, 13, 59, 25, 300112, tzinfo=UTC),
        f_cnt=10,
        f_port=85,
        dev_addr="00513942",
        flags=UplinkFlag.ADR,
        spreading_factor=7,
        frequency=868_100_000,
        gateways=(Gateway("0303030303030303", -48.0, 9.0, None, 52.3740364, 4.9144401),),
        origin={"name": "fridge-07", "application": "cold-chain", "profile": "EM300"},
    ),
    "helium_console/up": Uplink(
        dedup_key=of_message("helium_console/up"),
        dev_eui="1c29fbd1d2084e21",
        network="helium-console",
        payload=b"Hello, world!",
        time=datetime(2020, 4, 14, 12, 49, 6, 123000, tzinfo=UTC),
        ns_time=datetime(2020, 4, 14, 12, 49, 6, 123000, tzinfo=UTC),
        f_cnt=19,
        f_port=1,
        dev_addr="b5a44869",
        spreading_factor=9,
        frequency=912_299_988,
        gateways=(Gateway("11KHJW1ePkfhLYptMwKyDzn4opLc62daahbi35uxhH3wwi7p6xr", -54.0, 9.800000190734863),),
        origin={"name": "Test Me"},
    ),
    "actility_thingpark/up": Uplink(
        dedup_key=of_message("actility_thingpark/up"),
        dev_eui="0018b20000000bee",
        network="actility-thingpark",
        payload=bytes.fromhex("9e184856043000211770baae0bc9"),
        time=THINGPARK_TIME,
        f_cnt=368,
        f_port=1,
        dev_addr="040006cc",
        flags=UplinkFlag.CONFIRMED | UplinkFlag.ADR,
        spreading_factor=7,
        frequency=868_500_000,
        gateways=(Gateway("10001273", -84.0, 9.75, None, 47.934113, 1.196017),),
        origin={"name": "Field tester"},
    ),
    "actility_thingpark/up_all_strings": Uplink(
        dedup_key=of_message("actility_thingpark/up_all_strings"),
        dev_eui="0018b20000000b20",
        network="actility-thingpark",
        payload=bytes.fromhex("9e1c4852512000220020e3831071"),
        time=datetime(2018, 10, 3, 13, 38, 46, 882000, tzinfo=UTC),
        f_cnt=1174,
        f_port=1,
        dev_addr="04d2848e",
        flags=UplinkFlag.CONFIRMED | UplinkFlag.ADR,
        spreading_factor=7,
        frequency=868_100_000,
        gateways=(Gateway("004A18E3", -80.0, 7.0, None, 45.851032, 1.26623),),
    ),
    "loriot/rx": Uplink(
        dedup_key=hash_key("loriot", "up", "0102030405060708", "1", "2016-08-10T17:37:55.433000+00:00"),
        dev_eui="0102030405060708",
        network="loriot",
        payload=b"\x01\x02\xaa\xbb",
        time=datetime(2016, 8, 10, 17, 37, 55, 433000, tzinfo=UTC),
        ns_time=datetime(2016, 8, 10, 17, 37, 55, 433000, tzinfo=UTC),
        f_cnt=1,
        f_port=1,
        battery=100.0,
    ),
    "loriot/gw": Uplink(
        dedup_key=hash_key("loriot", "up", "0102030405060708", "1", "2016-08-10T17:37:55.433000+00:00"),
        dev_eui="0102030405060708",
        network="loriot",
        payload=b"\x01\x02\xaa\xbb",
        time=datetime(2016, 8, 10, 17, 37, 55, 433000, tzinfo=UTC),
        ns_time=datetime(2016, 8, 10, 17, 37, 55, 433000, tzinfo=UTC),
        f_cnt=1,
        f_port=1,
        spreading_factor=12,
        frequency=868_500_000,
        gateways=(Gateway("1122334455667788", -130.0, 1.2),),
    ),
    "aws_iot_lorawan/up": Uplink(
        dedup_key=of_message("aws_iot_lorawan/up"),
        dev_eui="058a0cb000202c99",
        network="aws-iot-lorawan",
        payload=bytes.fromhex("09ce3c0000000000000000"),
        time=datetime(2021, 5, 3, 3, 24, 29, tzinfo=UTC),
        ns_time=datetime(2021, 5, 3, 3, 24, 29, tzinfo=UTC),
        f_cnt=1,
        f_port=136,
        dev_addr="00b96cd4",
        spreading_factor=12,
        frequency=868_100_000,
        gateways=(Gateway("80029cfffe5cf1cc", -29.0, 9.75),),
        origin={"name": "5b58245e-146c-4c30-9703-0ca942e3ff35"},
    ),
    "milesight_gateway/up": Uplink(
        dedup_key=of_message("milesight_gateway/up"),
        dev_eui="24e124136b502217",
        network="milesight-gateway",
        payload=bytes.fromhex("0367ea0004684f050000"),
        time=datetime(2022, 12, 27, 7, 21, 27, 78763, tzinfo=UTC),
        f_cnt=128,
        f_port=85,
        flags=UplinkFlag.ADR,
        spreading_factor=7,
        frequency=868_100_000,
        gateways=(
            Gateway("24e124fffef54092", -51.0, 13.8, datetime(2022, 12, 27, 7, 21, 27, 78763, tzinfo=UTC)),
        ),
        origin={"name": "EM300-TH", "application": "cloud"},
    ),
    "kerlink_wmc/dataUp": Uplink(
        dedup_key=hash_key("kerlink-wmc", "up", "5d2342ac71a1270001035042"),
        dev_eui="343737394a336f09",
        network="kerlink-wmc",
        payload=bytes.fromhex("0027800bddfd773b447bf9fede870046"),
        time=datetime(2019, 7, 8, 13, 18, 36, 50000, tzinfo=UTC),
        ns_time=datetime(2019, 7, 8, 13, 18, 36, 89000, tzinfo=UTC),
        f_cnt=6940,
        f_port=2,
        dev_addr="24004f6b",
        spreading_factor=12,
        frequency=868_300_000,
        gateways=(Gateway("7276ff0039030436", -107.0, -7.0),),
    ),
    "everynet/uplink": Uplink(
        dedup_key=hash_key("everynet", "up", "691f54adaa2a342e7e8301883502b7a2", "1729855864.854002"),
        dev_eui="00ee0100000079a0",
        network="everynet",
        payload=bytes.fromhex("0d0c7f0d0d5c0d03390c0cde"),
        time=datetime(2024, 10, 25, 11, 31, 4, 854002, tzinfo=UTC),
        ns_time=datetime(2024, 10, 25, 11, 31, 4, 937000, tzinfo=UTC),
        f_cnt=216,
        f_port=1,
        dev_addr="6ea549d7",
        spreading_factor=12,
        frequency=915_200_000,
        gateways=(Gateway("b0fd0b7000fd0000", -113.0, -11.8, None, -23.685, -46.68),),
        origin={"application": "70b3d57ed000993d"},
    ),
    "senet/up": Uplink(
        dedup_key=of_message("senet/up"),
        dev_eui="00250c010000030b",
        network="senet",
        payload=bytes.fromhex("007321e7016700de"),
        time=datetime(2019, 9, 3, 14, 50, 7, tzinfo=UTC),
        f_cnt=14614,
        f_port=1,
        frequency=903_900_000,
        gateways=(Gateway("00250c00010003a9", -104.0, 7.5),),
    ),
}
