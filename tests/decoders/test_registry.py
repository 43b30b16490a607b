"""Codecs of third parties: found through real entry points, and harmless when they are broken."""

from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent

import pytest

from decoders.registry import GROUP, load_codecs
from telemetry.errors import UsageError

OURS = EntryPoint("cayenne-lpp", "decoders.builtin.cayenne_lpp.codec:CODEC", GROUP)

PLUGIN = """
    from telemetry.plugin import DecodeError, Field, Fields

    class Tide:
        version = "3"

        def __init__(self, id="acme-tide"):
            self.id = id

        def decode(self, f_port, payload):
            return {"level": payload[0]}

        def encode(self, fields):
            return 1, bytes([fields["level"]])

    class Raising(Tide):
        @property
        def version(self):
            raise RuntimeError("no licence")

    CODEC = Tide()
    OTHER_NAME = Tide("acme-other")
    NO_ID = Tide("")
    RAISING = Raising()
    NUMBER = 7

    class HalfDone:
        id = "acme-half"
        version = "1"

        def decode(self, f_port, payload):
            return {}

    HALF = HalfDone()
"""


def _install(folder: Path, distribution: str, module: str, source: str, **entries: str) -> None:
    """What an installer leaves behind: a module, and metadata with entry points."""
    (folder / f"{module}.py").write_text(dedent(source))
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"{name.replace('_', '-')} = {module}{target}" for name, target in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def _problem(registry_problems: tuple[str, ...], codec: str) -> str:
    (problem,) = [problem for problem in registry_problems if problem.startswith(f"codec {codec!r}")]
    return problem


def test_an_installed_distribution_adds_its_codec(site: Path) -> None:
    _install(site, "acme-codecs", "acme_good", PLUGIN, acme_tide=":CODEC")

    registry = load_codecs()

    assert registry.get("acme-tide").decode(1, b"\x05") == {"level": 5}
    assert not [problem for problem in registry.problems if "acme" in problem]


def test_broken_entry_points_cost_nobody_else(site: Path) -> None:
    _install(site, "acme-exits", "acme_exits", "raise SystemExit(3)", acme_exits=":CODEC")
    _install(
        site,
        "acme-codecs",
        "acme_mixed",
        PLUGIN,
        acme_tide=":CODEC",
        acme_class=":Tide",
        acme_half=":HALF",
        acme_missing=":NOTHING",
        acme_module="_gone:CODEC",
        acme_number=":NUMBER",
        acme_raising=":RAISING",
        acme_renamed=":OTHER_NAME",
        acme_unnamed=":NO_ID",
    )

    registry = load_codecs()

    assert registry.get("acme-tide").version == "3"
    reasons = {
        "acme-class": "is the class Tide; export an instance of it",
        "acme-exits": "SystemExit: 3",
        "acme-half": "it has no encode",
        "acme-missing": "AttributeError",
        "acme-module": "ModuleNotFoundError: No module named 'acme_mixed_gone'",
        "acme-number": "it has no id, version, decode, encode",
        "acme-raising": "RuntimeError: no licence",
        "acme-renamed": "its id is 'acme-other'",
        "acme-unnamed": "its id is ''",
    }
    assert not reasons.keys() & set(registry.ids())
    for codec, reason in reasons.items():
        assert reason in _problem(registry.problems, codec)
    assert "acme-codecs" in _problem(registry.problems, "acme-half")


def test_of_two_equal_ids_the_first_distribution_stays(site: Path) -> None:
    _install(site, "zz-second", "acme_second", PLUGIN.replace('"3"', '"second"'), acme_tide=":CODEC")
    _install(site, "aa-first", "acme_first", PLUGIN.replace('"3"', '"first"'), acme_tide=":CODEC")

    registry = load_codecs()

    assert registry.get("acme-tide").version == "first"
    problem = _problem(registry.problems, "acme-tide")
    assert "zz-second" in problem
    assert "another codec has this id already" in problem


def test_a_plugin_cannot_replace_a_codec_of_ours(site: Path) -> None:
    source = PLUGIN.replace("acme-tide", "cayenne-lpp")
    _install(site, "aa-first", "acme_replaces", source, cayenne_lpp=":CODEC")
    _install(
        site, "quantrac", "ours", "from decoders.builtin.cayenne_lpp.codec import *", cayenne_lpp=":CODEC"
    )

    registry = load_codecs()

    assert type(registry.get("cayenne-lpp")).__name__ == "CayenneLpp"
    assert "aa-first" in _problem(registry.problems, "cayenne-lpp")


def test_an_unknown_id_names_what_is_near() -> None:
    registry = load_codecs([OURS])
    with pytest.raises(UsageError, match=r"unknown codec 'cayene-lpp': did you mean cayenne-lpp\?"):
        registry.get("cayene-lpp")
    with pytest.raises(UsageError, match="unknown codec 'xyz': known are cayenne-lpp"):
        registry.get("xyz")
    with pytest.raises(UsageError, match="unknown codec 'xyz': none is installed"):
        load_codecs([]).get("xyz")
