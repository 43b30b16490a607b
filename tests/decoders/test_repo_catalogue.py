"""Device types made from checkouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from decoders.devicerepo.catalogue import device_types, read_catalogue, short_vendor
from decoders.devicerepo.chirpstack import ChirpstackCheckout
from decoders.devicerepo.model import RepoDevice
from decoders.devicerepo.ttn import TtnCheckout

from .repo_trees import CHIRPSTACK, TTN, write

DEVICE = RepoDevice("ttn", "acme-iot", "Acme IoT Co., Ltd", "m500-udl", "M500-UDL - Level", "", (), ())


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("Milesight IoT Co., Ltd", "Milesight"),
        ("Dragino Technology Co., Limited", "Dragino"),
        ("Decentlab GmbH", "Decentlab"),
        ("Alpha-Omega Technology GmbH & Co. KG", "Alpha-Omega"),
        ("KS Technologies, LLC", "KS Technologies"),
        ("Plenom A/S", "Plenom"),
        ("Yosensi Sp. z o.o.", "Yosensi"),
        ("Enthu Solutions India Pvt Ltd", "Enthu Solutions India"),
        ("Teneo IoT", "Teneo"),
        ("The Things Industries", "The Things Industries"),
        ("IoT", "IoT"),
        ("System Level Solutions (India) Pvt. Ltd.", "System Level Solutions (India)"),
        ("Aqua-Scope Technologies", "Aqua-Scope Technologies"),
        ("Casas", "Casas"),
        ("AG", "AG"),
    ],
)
def test_short_vendor(full: str, short: str) -> None:
    assert short_vendor(full) == short


def test_an_officer_finds_vendor_and_model() -> None:
    (entry,) = device_types([DEVICE])
    assert (entry.id, entry.label, entry.vendor, entry.model) == (
        "acme-m500-udl",
        "Acme M500-UDL",
        "Acme",
        "M500-UDL",
    )
    assert entry.repository_id == "acme-iot/m500-udl"


def test_a_vendor_is_not_named_twice() -> None:
    (entry,) = device_types([replace(DEVICE, model_id="acme-x1", name="Acme X1")])
    assert (entry.id, entry.label) == ("acme-x1", "Acme X1")


def test_two_that_would_share_an_id_get_their_vendors_own() -> None:
    other = replace(DEVICE, vendor_id="acme-water", vendor="Acme AG")
    for devices in ([DEVICE, other, DEVICE], [other, DEVICE]):
        assert [entry.id for entry in device_types(devices)] == ["acme-iot-m500-udl", "acme-water-m500-udl"]


def test_what_is_still_the_same_is_numbered() -> None:
    one, other = replace(DEVICE, model_id="a.b"), replace(DEVICE, model_id="a-b")
    for devices in ([one, other], [other, one]):
        assert [(entry.id, entry.repository_id) for entry in device_types(devices)] == [
            ("acme-iot-a-b", "acme-iot/a-b"),
            ("acme-iot-a-b-2", "acme-iot/a.b"),
        ]


def test_a_name_without_latin_letters() -> None:
    assert [entry.id for entry in device_types([replace(DEVICE, vendor="水", model_id="x1")])] == ["x1"]
    assert [entry.id for entry in device_types([replace(DEVICE, vendor="水", model_id="水")])] == ["device"]


def test_ids_are_plain_letters() -> None:
    (entry,) = device_types([replace(DEVICE, vendor="Quan Trắc (Đo) Ltd.", model_id="Đo_1.2 ++")])
    assert entry.id == "quan-trac-do-do_1-2"


def test_every_codec_of_a_device_type_is_in_the_catalogue(tmp_path: Path) -> None:
    ttn = read_catalogue(TtnCheckout(write(tmp_path / "ttn", TTN)))
    assert [entry.id for entry in ttn.entries] == ["river-works-rw100", "river-works-rw200"]
    assert [entry.label for entry in ttn.entries] == ["River Works RW100", "River Works RW200"]
    chirpstack = read_catalogue(ChirpstackCheckout(write(tmp_path / "chirpstack", CHIRPSTACK)))
    assert [entry.id for entry in chirpstack.entries] == ["river-works-rw300"]
    for catalogue in (ttn, chirpstack):
        named = {
            version.codec.uplink_decoder
            for entry in catalogue.entries
            for version in entry.firmware
            if version.codec
        }
        assert named
        assert named <= catalogue.codecs.keys()
        assert catalogue.problems == ()


def test_problems_are_told_once(tmp_path: Path) -> None:
    catalogue = read_catalogue(TtnCheckout(write(tmp_path, TTN, {"rw100-codec.yaml": "3\n"})))
    assert [str(problem) for problem in catalogue.problems] == [
        "vendor/river-works/rw100-codec.yaml: Expected `object`, got `int`"
    ]
    assert [version.codec for version in catalogue.entries[0].firmware] == [None, None, None]
