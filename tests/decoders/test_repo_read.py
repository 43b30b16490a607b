"""Reading checkouts: what is found, and that a bad file costs only itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decoders.devicerepo.catalogue import read_catalogue
from decoders.devicerepo.checkout import find_checkout, open_checkout
from decoders.devicerepo.chirpstack import ChirpstackCheckout
from decoders.devicerepo.files import BadFile, Files
from decoders.devicerepo.lines import toml_line, yaml_line
from decoders.devicerepo.model import Checkout, Problem, RepoCodec, RepoDevice, Vector
from decoders.devicerepo.ttn import TtnCheckout
from telemetry.errors import UsageError

from .repo_trees import CHIRPSTACK, CODEC, TTN, write


def devices(checkout: Checkout) -> list[RepoDevice]:
    return [found for found in checkout.devices() if isinstance(found, RepoDevice)]


def vectors(checkout: Checkout) -> list[Vector]:
    return [found for found in checkout.vectors() if isinstance(found, Vector)]


def problems(checkout: Checkout) -> list[str]:
    found = [*checkout.devices(), *checkout.codecs(), *checkout.vectors()]
    return [str(problem) for problem in dict.fromkeys(one for one in found if isinstance(one, Problem))]


def test_ttn_devices(tmp_path: Path) -> None:
    checkout = TtnCheckout(write(tmp_path, TTN))
    first, second = devices(checkout)
    assert (first.vendor_id, first.model_id, first.name) == (
        "river-works",
        "rw100",
        "RW100 - Ultrasonic level",
    )
    assert first.sensors == ("distance", "battery")
    codec = RepoCodec.of("vendor/river-works/rw100.js", CODEC).id
    assert [
        (one.version, one.hardware_versions, one.regions, one.codec and one.codec.uplink_decoder)
        for one in first.firmware
    ] == [
        ("1.10", ("1.0",), ("EU863-870", "AS923"), codec),
        ("2.0", (), ("EU863-870",), codec),
        ("2.0", (), ("US902-928",), None),
    ]
    assert second.description == ""
    assert problems(checkout) == []


def test_ttn_codecs_come_once_and_only_where_a_device_names_them(tmp_path: Path) -> None:
    (codec,) = TtnCheckout(write(tmp_path, TTN)).codecs()
    assert isinstance(codec, RepoCodec)
    assert codec.path == "vendor/river-works/rw100.js"
    assert codec.functions == ("decodeDownlink", "decodeUplink", "encodeDownlink", "normalizeUplink")


def test_ttn_vectors_in_the_words_of_yaml_1_2(tmp_path: Path) -> None:
    found = vectors(TtnCheckout(write(tmp_path, TTN)))
    assert [vector.function for vector in found] == [
        *("decode_uplink", "normalize_uplink", "decode_uplink", "decode_uplink"),
        *("encode_downlink", "encode_downlink", "encode_downlink", "decode_downlink"),
    ]
    first, normalized = found[:2]
    assert first.payload == bytes([21, 1, 17])
    assert first.expected == {"data": {"level": 2.1, "state": "on", "code": 17}}
    assert normalized.data == first.expected["data"]
    assert normalized.expected == {"data": [{"water": {"level": 0.021}}]}
    assert found[4].data == {"minutes": 10.0}
    assert found[5].more == {"command": 4}
    assert str(found[3]) == "vendor/river-works/rw100-codec.yaml: uplinkDecoder.examples[2] (other port)"


def test_chirpstack_devices(tmp_path: Path) -> None:
    (device,) = devices(ChirpstackCheckout(write(tmp_path, CHIRPSTACK)))
    assert (device.vendor, device.model_id, device.name) == (
        "River Works",
        "river-works-rw300",
        "River Works RW300",
    )
    (firmware,) = device.firmware
    assert firmware.regions == ("EU868", "AS923")
    assert firmware.codec is not None
    assert firmware.codec.downlink_encoder == firmware.codec.uplink_decoder
    assert firmware.codec.downlink_decoder is None


def test_chirpstack_vectors(tmp_path: Path) -> None:
    checkout = ChirpstackCheckout(write(tmp_path, CHIRPSTACK))
    decode, encode = vectors(checkout)
    assert decode.recv_time_us == datetime(2024, 5, 2, 20, 0, 0, 250_000, UTC).timestamp() * 1e6
    assert decode.variables == {"gain": "2"}
    assert decode.codec == encode.codec
    assert encode.data == {"minutes": 3}
    assert problems(checkout) == []


@pytest.mark.parametrize(
    ("changed", "told", "devices_left", "vectors_left"),
    [
        (
            {"rw200.yaml": "name: [x"},
            "vendor/river-works/rw200.yaml:2: YAML parse error: while parsing a flow",
            1,
            8,
        ),
        (
            {"rw200.yaml": "name: RW200\n"},
            "vendor/river-works/rw200.yaml:1: Object missing required field `firmwareVersions`",
            1,
            8,
        ),
        (
            {"rw200.yaml": "name: RW200\nfirmwareVersions:\n  - profiles: {}\n    version: 1.0\n"},
            "vendor/river-works/rw200.yaml:4: firmwareVersions[0].version: Expected `str`, got `float`",
            1,
            8,
        ),
        (
            {"rw100-codec.yaml": "- a\n"},
            "vendor/river-works/rw100-codec.yaml:1: Expected `object`, got `array`",
            2,
            0,
        ),
        (
            {"rw100-codec.yaml": "uplinkDecoder:\n  fileName: ../../../../etc/hostname\n"},
            "vendor/river-works/../../../../etc/hostname: lies outside the checkout",
            2,
            0,
        ),
        (
            {"rw100-codec.yaml": "uplinkDecoder:\n  fileName: rw101.js\n"},
            "vendor/river-works/rw101.js: No such file",
            2,
            0,
        ),
        (
            {
                "rw100-codec.yaml": TTN["vendor/river-works/rw100-codec.yaml"].replace(
                    "210, 0, 0", "256, 0, 0"
                )
            },
            "vendor/river-works/rw100-codec.yaml:12: uplinkDecoder.examples[1].input.bytes[0]: Expected",
            2,
            7,
        ),
        (
            {"rw200.yaml": "name: &a x\ndescription: *a\n"},
            "vendor/river-works/rw200.yaml:2: an alias is not allowed here",
            1,
            8,
        ),
        ({"rw200.yaml": "name: !x y\n"}, "vendor/river-works/rw200.yaml:1: a tag is not allowed here", 1, 8),
        (
            {"rw200.yaml": "name: " + "[" * 100_000},
            "vendor/river-works/rw200.yaml:1: YAML parse error: recursion limit",
            1,
            8,
        ),
    ],
)
def test_a_bad_file_is_told_and_costs_only_itself(
    tmp_path: Path, changed: dict[str, str], told: str, devices_left: int, vectors_left: int
) -> None:
    checkout = TtnCheckout(write(tmp_path, TTN, changed))
    (problem,) = problems(checkout)
    assert problem.startswith(told)
    assert len(devices(checkout)) == devices_left
    assert len(vectors(checkout)) == vectors_left


@pytest.mark.parametrize("tree", [TTN, CHIRPSTACK], ids=["ttn", "chirpstack"])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_damage_to_a_file_is_raised(tmp_path: Path, tree: dict[str, str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in tree if not name.endswith(".js")]))
    text = tree[name].encode()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 10)))
    new = data.draw(
        st.binary(max_size=3) | st.sampled_from([b"? [a]\n: ", b"*a", b"!", b"\0", b"&a", b": [", b"%"])
    )
    write(tmp_path, tree)
    (tmp_path / name).write_bytes(text[:start] + new + text[end:])
    checkout = open_checkout(tmp_path)
    for found in (*checkout.codecs(), *checkout.vectors(), *read_catalogue(checkout).problems):
        assert isinstance(found, (RepoCodec, Vector, Problem))


def test_a_bad_vendor_index_leaves_the_other_vendors(tmp_path: Path) -> None:
    write(tmp_path, TTN)
    (tmp_path / "vendor/no-device/index.yaml").parent.mkdir()
    (tmp_path / "vendor/no-device/index.yaml").write_text("endDevices: 3\n")
    checkout = TtnCheckout(tmp_path)
    assert problems(checkout) == ["vendor/no-device/index.yaml:1: endDevices: Expected `array`, got `int`"]
    assert len(devices(checkout)) == 2


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"test_decode_rw300.json": '[\n {"input": {"bytes": [0x10]}}]'},
            "test_decode_rw300.json:2: is not JSON",
        ),
        (
            {"test_decode_rw300.json": '[{"input": {},\n "expected": 3}]'},
            "test_decode_rw300.json:2: [0].expected: Expected `object`",
        ),
        ({"test_decode_rw300.json": "[" * 100_000}, "test_decode_rw300.json: "),
        (
            {"river-works-rw300.toml": "[device]\nname = \n"},
            "devices/river-works-rw300.toml:2: Invalid value, column 8",
        ),
        (
            {"river-works-rw300.toml": "[device]\n"},
            "devices/river-works-rw300.toml:1: device: Object missing required field `name`",
        ),
        (
            {"AS923-1_0_3.toml": "[profile]\n"},
            "profiles/AS923-1_0_3.toml:1: profile: Object missing required field `region`",
        ),
        (
            {
                "river-works-rw300.toml": CHIRPSTACK[
                    "vendors/river-works/devices/river-works-rw300.toml"
                ].replace("rw300-01.js", "../../x.js")
            },
            "codecs/../../x.js: a codec must lie in its vendor's codecs folder",
        ),
    ],
)
def test_a_bad_file_of_chirpstacks_is_told(tmp_path: Path, changed: dict[str, str], told: str) -> None:
    (problem,) = problems(ChirpstackCheckout(write(tmp_path, CHIRPSTACK, changed)))
    assert problem.startswith(f"vendors/river-works/{'' if '/' in told.split(':')[0] else 'codecs/'}{told}")


def test_a_test_file_of_two_possible_codecs_is_told(tmp_path: Path) -> None:
    write(tmp_path, CHIRPSTACK)
    (tmp_path / "vendors/river-works/codecs/rw300-02.js").write_text("")
    assert problems(ChirpstackCheckout(tmp_path)) == [
        "vendors/river-works/codecs/test_decode_rw300.json: no codec rw300.js beside it"
    ]


def test_a_symbolic_link_out_of_the_checkout_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "secret.yaml"
    outside.write_text("name: secret\n")
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "link.yaml").symlink_to(outside)
    with pytest.raises(BadFile, match="outside the checkout"):
        Files(root).text("link.yaml")


def test_text_must_be_utf_8_and_of_sensible_size(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_bytes(b"// one\n// \xff\n")
    with pytest.raises(BadFile, match=r"a\.js:2: is not UTF-8"):
        Files(tmp_path).text("a.js")
    (tmp_path / "b.js").write_bytes(b" " * (4 * 1024 * 1024 + 1))
    with pytest.raises(BadFile, match="larger than"):
        Files(tmp_path).text("b.js")


def test_the_line_of_a_value() -> None:
    text = "a:\n  - b: 1\n  - c:\n      d: [1, 2]\n"
    assert yaml_line(text, "a[1].c.d[1]") == 4
    assert yaml_line(text, "a[1].missing") == 3
    assert yaml_line("a: [", "a") is None
    toml = "[a]\nx = 1\n[[a.b]]\nx = 1\n[[a.b]]\ny = 1\nx = [\n2]\n"
    assert toml_line(toml, "a.x") == 2
    assert toml_line(toml, "a.b[1].x[0]") == 7
    assert toml_line(toml, "a.b[1].z") == 5
    assert toml_line(toml, "c") is None


@pytest.mark.parametrize("name", [".", "vendor", "vendor/river-works"])
def test_finding_the_things_networks(tmp_path: Path, name: str) -> None:
    checkout = open_checkout(write(tmp_path, TTN) / name)
    assert isinstance(checkout, TtnCheckout)
    assert len(devices(checkout)) == 2


@pytest.mark.parametrize(
    ("name", "count"), [(".", 1), ("vendors", 1), ("vendors/river-works", 1), ("vendors/example-vendor", 0)]
)
def test_finding_chirpstacks(tmp_path: Path, name: str, count: int) -> None:
    checkout = open_checkout(write(tmp_path, CHIRPSTACK) / name)
    assert isinstance(checkout, ChirpstackCheckout)
    assert len(devices(checkout)) == count


def test_no_checkout(tmp_path: Path) -> None:
    assert find_checkout(tmp_path) is None
    with pytest.raises(UsageError, match=r"neither vendor/index\.yaml"):
        open_checkout(tmp_path)
