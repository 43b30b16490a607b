"""What an import of a device repository would write: pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from decoders.devicerepo.catalogue import Catalogue, device_types
from decoders.devicerepo.model import CodecRoles, Firmware, RepoCodec, RepoDevice
from quantrac.codec_import import NewType, TypeRow, codec_ids, make_plan
from telemetry.codec_version import codec_version

OLD, NEW = RepoCodec.of("vendor/acme/tank-old.js", "old"), RepoCodec.of("vendor/acme/Tank New.js", "new")
DEVICE = RepoDevice(
    "ttn", "acme", "Acme", "tank", "Tank", "", (),
    (
        Firmware("1.0", (), ("AS923",), CodecRoles(OLD.id)),
        Firmware("2.0", (), ("AS923",), CodecRoles(NEW.id)),
        Firmware("3.0", (), ("AS923",), None),
    ),
)  # fmt: skip
CATALOGUE = Catalogue(device_types([DEVICE]), {OLD.id: OLD, NEW.id: NEW}, ())
CHOICES = [
    {"codec": "ttn.acme.tank-old", "firmware": "1.0"},
    {"codec": "ttn.acme.tank-new", "firmware": "2.0"},
]
ROW = TypeRow("acme-tank", "Acme", "Tank", "ttn.acme.tank-new", CHOICES, False, False)


def planned(row: TypeRow | None, *refused: str) -> tuple[list[NewType], list[tuple[str, str]], int]:
    known = {} if row is None else {row.id: row}
    plan = make_plan(CATALOGUE, "ttn", dict.fromkeys(refused), {}, known)
    return plan.types, plan.kept, plan.same_types


def test_every_firmware_with_a_codec_is_a_choice_and_the_newest_the_default() -> None:
    assert planned(None) == (
        [NewType("acme-tank", "Acme", "Tank", "ttn.acme.tank-new", CHOICES, None)],
        [],
        0,
    )


def test_a_refused_codec_is_left_out() -> None:
    ((new,), _, _) = planned(None, NEW.id)
    assert (new.codec, new.codecs) == ("ttn.acme.tank-old", CHOICES[:1])
    ((new,), _, _) = planned(None, NEW.id, OLD.id)
    assert (new.codec, new.codecs) == ("", [])


def test_what_is_there_decides() -> None:
    def becomes(**change: Any) -> str:
        types, kept, same = planned(ROW._replace(**change))
        assert len(types) + len(kept) + same == 1
        return f"written over {types[0].was!r}" if types else kept[0][1] if kept else "same"

    assert becomes() == "same"
    assert becomes(mapped=True) == "same"
    assert becomes(model="Tank 1") == "written over 'ttn.acme.tank-new'"
    assert becomes(codec="") == "written over ''"
    assert "comes with the program" in becomes(builtin=True)
    assert "given another codec" in becomes(codec="mine")
    assert becomes(codec="chirpstack.acme.tank") == "written over 'chirpstack.acme.tank'"
    assert "its map" in becomes(codec="chirpstack.acme.tank", mapped=True)


def test_choices_by_hand_are_kept() -> None:
    own = [{"codec": "ttn.acme.tank-old", "version": "0" * 16, "to": "2026-01-01T00:00:00+00:00"}]
    assert planned(ROW._replace(codecs=own)) == ([], [], 1)
    ((new,), _, _) = planned(ROW._replace(codecs=own, model="Tank 1"))
    assert new.codecs == own


def test_the_things_network_goes_first_unless_it_has_no_codec() -> None:
    there = replace(CATALOGUE, codecs={})
    plan = make_plan(there, "chirpstack", {}, {}, {ROW.id: ROW})
    assert plan.kept == [("acme-tank", "it has a codec already, and here is none")]
    plan = make_plan(CATALOGUE, "chirpstack", {}, {}, {ROW.id: ROW})
    assert "goes first" in plan.kept[0][1]
    plan = make_plan(CATALOGUE, "chirpstack", {}, {}, {ROW.id: ROW._replace(codec="", codecs=[])})
    assert plan.types[0].codec == "chirpstack.acme.tank-new"


def test_versions() -> None:
    known = {"ttn.acme.tank-old": ["f" * 16, codec_version("old")], "ttn.acme.tank-new": ["0" * 16]}
    plan = make_plan(CATALOGUE, "ttn", {}, known, {})
    assert plan.outdated == ["ttn.acme.tank-old"]
    assert (plan.same_codecs, plan.new_versions, len(plan.codecs)) == (1, 1, 1)


def test_ids_differ_and_are_short() -> None:
    paths = ["vendor/a/B.js", "vendor/a/b.js", "vendors/v/codecs/c.js", f"vendor/x/{'long-' * 20}name.js"]
    codecs = {codec.id: codec for codec in (RepoCodec.of(path, path) for path in paths)}
    ids = list(codec_ids(Catalogue((), codecs, ()), "ttn").values())
    assert len(set(ids)) == 4
    assert all(id_.startswith("ttn.a.b-") for id_ in ids[:2])
    assert ids[2] == "ttn.v.c"
    assert max(map(len, ids)) <= 64
