"""Scenarios: what ships loads, what is broken is refused with file, line, path and cause."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from simulators.scenario import BUILTIN_FOLDER, Scenario, _File, list_scenarios, load_scenario
from simulators.stations import _File as StationsFile
from simulators.world.basin import Basin
from simulators.world.spec import WorldSpec
from simulators.yamlfile import Model
from telemetry.errors import UsageError
from tests.docs.pages import DOCS, blocks, spans


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[str, str], tuple[Path, int]]:
    """A copy of the flood with one text replaced; gives its path and the line of the change."""

    def _broken(old: str, new: str) -> tuple[Path, int]:
        text = (BUILTIN_FOLDER / "la-nga-flood.yaml").read_text(encoding="utf-8")
        assert old in text
        line = text[: text.index(old)].count("\n") + 1
        text = text.replace(old, new, 1).replace("../", f"{BUILTIN_FOLDER.parent}/")
        path = tmp_path / "broken.yaml"
        path.write_text(text, encoding="utf-8")
        return path, line

    return _broken


@pytest.mark.parametrize("name", list_scenarios())
def test_what_ships_loads(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.id == name
    assert scenario.name.vi
    assert scenario.name.en
    assert scenario.description.vi
    assert scenario.rules_path is not None
    assert scenario.rules_path.parts[-2:] == ("rules", "river-levels.yaml")


def test_both_scenarios_ship() -> None:
    assert {"la-nga-flood", "calm-day"} <= set(list_scenarios())


def test_the_flood_mixes_networks(flood: Scenario) -> None:
    assert 8 <= len(flood.devices) <= 12
    assert {device.network for device in flood.devices} == {"chirpstack-v4", "tts-v3"}


def test_registrations(flood: Scenario) -> None:
    registrations = flood.registrations()
    codes = {station.code for station in registrations.stations}
    assert {device.station for device in registrations.devices} == codes
    assert all(station.simulated for station in registrations.stations)
    assert all(device.simulated for device in registrations.devices)
    phu_hiep = next(device for device in registrations.devices if device.name == "Mực nước Phú Hiệp")
    assert phu_hiep.device_type == "dragino-ldds75"
    assert phu_hiep.variables == {"sensor_elevation_m": 108.5}


@pytest.mark.parametrize(
    ("old", "new", "path", "cause"),
    [
        ("interval: 20min", "interval: 20", "devices[0].interval", "write a number and its unit"),
        ("interval: 20min", "interval: 0s", "devices[0].interval", "greater than 0"),
        ("speed: 600", "sped: 600", "sped", "Extra inputs are not permitted"),
        ("speed: 600", "speed: fast", "speed", "valid number"),
        ("speed: 600", "speed: .inf", "speed", "finite"),
        ("station: ta-lai", "station: ta-laj", "devices[2].station", "did you mean 'ta-lai'?"),
        ("device_type: milesight-em300", "device_type: em300", "devices[9].device_type", "is none of"),
        ("point: la-nga-upper", "point: tri-an", "devices[5].point", "set point to one of dong-nai-middle,"),
        ("point: la-nga-upper", "point: mekong", "devices[5].point", "is none of"),
        ("    point: bien-hoa\n", "", "devices[10].station", "set point to one of bao-loc, bien-hoa or"),
        ("{sensor_elevation_m: 108.5}", "{}", "devices[1].variables", "sensor_elevation_m is needed"),
        ('"0251545200000003"', '"0251545200000002"', "devices[2].dev_eui", "is used twice"),
        ('"0251545200000003"', '"xyz"', "devices[2].dev_eui", "should match pattern"),
        ('"0251545200aa0002"', '"0251545200aa0001"', "gateways[1].id", "is used twice"),
        ("catchment: dong-nai-middle", "catchment: congo", "storms[3].catchment", "is none of"),
        ("onset_h: -44", "onset_h: -400", "storms[2].onset_h", "greater than or equal to -72"),
        ("network: chirpstack-v4", "network: helium", "devices[1].network", "'chirpstack-v3' or 'tts-v3'"),
        ("loss: 0.01", "loss: 0.01\n  loss: 0.02", "network.loss", "stands here twice"),
    ],
)
def test_faults_have_file_line_path_and_cause(
    broken: Callable[[str, str], tuple[Path, int]], old: str, new: str, path: str, cause: str
) -> None:
    file, line = broken(old, new)
    with pytest.raises(UsageError) as refused:
        load_scenario(file)
    messages = str(refused.value).splitlines()
    where, rest = next(m.split(": ", 1) for m in messages if f": {path}: " in m)
    named, at = where.rsplit(":", 1)
    assert named == str(file)
    # A fault of what is missing is shown at the part that lacks it.
    assert line - 6 <= int(at) <= line + 1
    assert cause in rest


def test_all_faults_are_shown_at_once(broken: Callable[[str, str], tuple[Path, int]]) -> None:
    file, _ = broken("speed: 600", "speed: -1\nfoo: bar")
    with pytest.raises(UsageError, match=r"(?s)speed: .*\n.*foo: "):
        load_scenario(file)


def test_not_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: [1, 2\nspeed: 3\n")
    with pytest.raises(UsageError, match=r"a\.yaml:2: not YAML: "):
        load_scenario(tmp_path / "a.yaml")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(UsageError, match=r"a\.yaml:1: name: Field required"):
        load_scenario(tmp_path / "a.yaml")


def test_a_list_instead_of_a_scenario(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- 1\n")
    with pytest.raises(UsageError, match=r"a\.yaml:1: "):
        load_scenario(tmp_path / "a.yaml")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_scenario(tmp_path / "a.yaml")


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'la-nga-flood'"):
        load_scenario("la-nga-flod")


def test_a_missing_basin_is_named(broken: Callable[[str, str], tuple[Path, int]]) -> None:
    file, _ = broken("basins/dong-nai.yaml", "basins/nile.yaml")
    with pytest.raises(UsageError, match=r"nile\.yaml: cannot be read"):
        load_scenario(file)


def test_the_page_s_scenario_plays(tmp_path: Path) -> None:
    for block in blocks("how-to/scenario.md", "yaml"):
        (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    brook = load_scenario(tmp_path / "brook.yaml")
    level = brook.scene(seed=1).series("water.level", brook.spot(brook.devices[0]))(
        np.arange(0.0, 24.0, 0.25)
    )
    assert level[0] < 1.0 < 1.2 < level.max() < 5.0
    assert np.diff(level[::4]).max() > 0.5
    (tmp_path / "brook.yaml").write_text(block.replace("station: mill", "station: mil"), encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        load_scenario(tmp_path / "brook.yaml")
    (told,) = [block for block in blocks("how-to/scenario.md", "") if "brook.yaml:" in block]
    assert told.strip() in str(refused.value).replace(f"{tmp_path}/", "")


def test_the_page_names_every_key() -> None:
    page = (DOCS / "how-to" / "scenario.md").read_text(encoding="utf-8")
    named = set(spans(page)) | {
        name.strip()
        for block in blocks("how-to/scenario.md", "yaml")
        for name in re.findall(r"\w+(?=:)", block)
    }
    for model in _models(_File, set()) | _models(Basin, set()) | _models(StationsFile, set()):
        assert {field.alias or name for name, field in model.model_fields.items()} <= named, model


def _models(model: type[Model], found: set[type[Model]]) -> set[type[Model]]:
    """This model and those of its fields, but for the world's, which have a page of their own."""
    if model in found or model is WorldSpec:
        return found
    found.add(model)
    for field in model.model_fields.values():
        pending: list[object] = [field.annotation]
        while pending:
            part = pending.pop()
            pending += get_args(part)
            if isinstance(part, type) and issubclass(part, Model):
                _models(part, found)
    return found
