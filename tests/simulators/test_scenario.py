"""Scenarios: what ships loads, what is broken is refused with file, line, path and cause."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from structlog.testing import capture_logs

from simulators.run import run
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


@pytest.fixture
def brook(tmp_path: Path) -> Path:
    """The page's scenario, with the files that it names beside it."""
    for block in blocks("how-to/scenario.md", "yaml"):
        if block.startswith("# "):
            (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    return tmp_path / "brook.yaml"


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
        ("interval: 20min", "interval: 20", "devices[0].interval", "write one number and its unit"),
        ("interval: 20min", "interval: 0s", "devices[0].interval", "must be above 0, not 0"),
        ("speed: 600", "sped: 600", "sped", "no key here (did you mean 'speed'?); known are name,"),
        ("speed: 600", "speed: fast", "speed", "write a number, not 'fast'"),
        ("speed: 600", "speed: .inf", "speed", "finite"),
        ("station: ta-lai", "station: ta-laj", "devices[2].station", "did you mean 'ta-lai'?"),
        ("device_type: milesight-em300", "device_type: em300", "devices[9].device_type", "is none of"),
        ("point: la-nga-upper", "point: tri-an", "devices[5].point", "set point to one of dong-nai-middle,"),
        ("point: la-nga-upper", "point: mekong", "devices[5].point", "is none of"),
        ("    point: bien-hoa\n", "", "devices[10].station", "set point to one of bao-loc, bien-hoa or"),
        ("{sensor_elevation_m: 108.5}", "{}", "devices[1].variables", "sensor_elevation_m is needed"),
        ('"0251545200000003"', '"0251545200000002"', "devices[2].dev_eui", "is used twice"),
        (
            '"0251545200000003"',
            '"xyz"',
            "devices[2].dev_eui",
            "write 16 hexadecimal digits",
        ),
        ('"0251545200aa0002"', '"0251545200aa0001"', "gateways[1].id", "is used twice"),
        ("catchment: dong-nai-middle", "catchment: congo", "storms[3].catchment", "is none of"),
        ("onset_h: -44", "onset_h: -400", "storms[2].onset_h", "must be -72 or more, not -400"),
        ("network: chirpstack-v4", "network: helium", "devices[1].network", "'chirpstack-v3' or 'tts-v3'"),
        ("loss: 0.01", "loss: 0.01\n  loss: 0.02", "network.loss", "stands here twice"),
        ("loss: 0.01", "loss: 0,01", "network.loss", "decimals have a point: 0.01"),
        ("latitude: 11.12", "latitude: 11,12", "gateways[0]", "12 is no key; decimals have a point"),
        ("speed: 600", "speed:", "speed", "nothing stands here"),
        ("speed: 600", "speed: {a: 1}", "speed", "write a number, not {'a': 1}"),
        ("stations: ../stations.yaml", "stations: nile.yaml", "stations", "there is no such file"),
        ("    name: Mực nước Tà Pao", "    name: 3", "devices[0].name", "put it in quotes"),
        ('"0251545200000003"', "0251545200000003", "devices[2].dev_eui", "in quotes"),
        ("{sensor_elevation_m: 108.5}", "108.5", "devices[1].variables", "write its keys, not 108.5"),
        ("gnss: false", "gnss: không", "gateways[2].gnss", "write true or false, not 'không'"),
        ("network: tts-v3", "river_km: -1", "devices[0].river_km", "must be 0 or more, not -1"),
        ("speed: 600", "speed: 600\nhazards: flood", "hazards", "write a list, such as [flood]"),
        ("speed: 600", "speed: 600\noutages: [now]", "outages[0]", "write its keys (begins_h, duration,"),
        ("onset_h: -44", "onset_h: 96", "storms[2].onset_h", "the scenario ends after 96 h"),
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
    assert not re.search("Input should|Value error|pydantic|valid dictionary", str(refused.value))


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("brook.yaml", "interval: ", "intervall: ", "devices[0].intervall: is no key here (did you mean"),
        (
            "brook.yaml",
            "dragino-ldds75",
            "dragino-ldds57",
            "devices[0].device_type: 'dragino-ldds57' is none",
        ),
        ("brook.yaml", "station: mill", "station: mil", "devices[0].station: 'mil' is none of mill"),
        ("brook.yaml", "    station", "\tstation", "not YAML: indent with spaces"),
        ("brook.yaml", "speed: 600", "speed:600", "not YAML: a key ends with a colon and a plain space"),
        (
            "brook.yaml",
            "metric: water.level\n",
            "metric: air.pressure\n",
            "is not what any device measures: dist",
        ),
        ("brook.yaml", "kind: stuck", "amount: 2, kind: noise", "noise does not act on rain.total"),
        (
            "basin.yaml",
            "[{catchment: hills",
            "[{catchment: hill",
            "'hill' is none of hills (did you mean 'hil",
        ),
        (
            "basin.yaml",
            "[{catchment: hills",
            "[{point: mill",
            "there is no 'mill'; none are known; points up",
        ),
        (
            "basin.yaml",
            "3, catchment: hills",
            "3, catchment: hill",
            "climates.mill.catchment: 'hill' is none",
        ),
        ("stations.yaml", "water.level", "water.levels", "of the catalogue (did you mean 'water.level'?)"),
        ("stations.yaml", "code: mill", "code: Mill", "stations[0].code: a word of a to z, digits"),
    ],
)
def test_one_mistake_is_one_fault(brook: Path, name: str, old: str, new: str, told: str) -> None:
    file = brook.with_name(name)
    file.write_text(file.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        load_scenario(brook)
    (line,) = str(refused.value).splitlines()
    assert re.match(rf"{re.escape(str(file))}:\d+: ", line)
    assert told in line


def test_what_stands_where_it_cannot_be_measured_is_refused(brook: Path) -> None:
    text = brook.read_text(encoding="utf-8")
    lonely = text.replace("station: mill", "station: mill\n    point: hills", 1)
    lonely = lonely.replace("device_type: dragino-ldds75", "device_type: cayenne-lpp-generic")
    for metric, key in (("air.temperature", "hazards[0].metric"), ("air.humidity", "faults[0].metric")):
        changed = lonely.replace("metric: water.level", f"metric: {metric}")
        changed = changed.replace(
            '1002", kind: stuck, metric: rain.total', f'1001", kind: stuck, metric: {metric}'
        )
        brook.write_text(changed, encoding="utf-8")
        with pytest.raises(UsageError) as refused:
            load_scenario(brook)
        assert f"{key}: {metric} is not in the world of" in str(refused.value)
        assert "set point to one of mill or describe it in `world:`" in str(refused.value)


def test_a_run_warns_of_a_hazard_that_never_comes_true(brook: Path, tmp_path: Path) -> None:
    text = brook.read_text(encoding="utf-8").replace("rises_per_h: 0.5", "above: 50")
    brook.write_text(text, encoding="utf-8")
    with capture_logs() as logs:
        asyncio.run(run(load_scenario(brook), seed=1, out=tmp_path / "out"))
    (problem,) = [log["problem"] for log in logs if log["event"] == "hazard_never"]
    line = text[: text.index("stations: [mill]")].count("\n") + 1
    assert problem.startswith(
        f"{brook}:{line}: hazards[0].stations[0]: flash-flood never comes true: water.l"
    )


@pytest.mark.parametrize("raw", ["name: Sự".encode("utf-16"), b"name: S\xf9\xff"])
def test_other_encodings_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.yaml").write_bytes(raw)
    with pytest.raises(UsageError, match=r"a\.yaml: cannot be read: save it as UTF-8"):
        load_scenario(tmp_path / "a.yaml")


def test_all_faults_are_shown_at_once(broken: Callable[[str, str], tuple[Path, int]]) -> None:
    file, _ = broken("speed: 600", "speed: -1\nfoo: bar")
    with pytest.raises(UsageError, match=r"(?s)speed: .*\n.*foo: "):
        load_scenario(file)


def test_not_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: [1, 2\nspeed: 3\n")
    with pytest.raises(UsageError, match=r"a\.yaml:1: not YAML: what is opened here"):
        load_scenario(tmp_path / "a.yaml")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(UsageError, match=r"a\.yaml:1: the file is empty"):
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
    file, line = broken("basins/dong-nai.yaml", "basins/nile.yaml")
    with pytest.raises(UsageError, match=rf"broken\.yaml:{line}: basin: .*nile\.yaml cannot be read"):
        load_scenario(file)


def test_the_page_s_scenario_plays(brook: Path) -> None:
    scenario = load_scenario(brook)
    at = scenario.spot(scenario.devices[0])
    level = scenario.scene(seed=1).series("water.level", at)(np.arange(0.0, 24.0, 0.25))
    assert level[0] < 1.0 < 1.2 < level.max() < 5.0
    assert np.diff(level[::4]).max() > 0.5
    text = brook.read_text(encoding="utf-8").replace("station: mill", "station: mil", 1)
    brook.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        load_scenario(brook)
    (told,) = [block for block in blocks("how-to/scenario.md", "") if "brook.yaml:" in block]
    assert told.strip() == str(refused.value).replace(f"{brook.parent}/", "")


def test_the_page_s_slope_fails_when_it_says(brook: Path) -> None:
    (slope,) = [block for block in blocks("how-to/scenario.md", "yaml") if not block.startswith("# ")]
    text = yaml.safe_dump(yaml.safe_load(brook.read_text(encoding="utf-8")) | yaml.safe_load(slope))
    brook.write_text(text, encoding="utf-8")
    scenario = load_scenario(brook)
    hours = np.arange(0.0, 72.0, 0.25)
    moved = scenario.scene(seed=1).series("structure.displacement", scenario.spot(scenario.devices[0]))(hours)
    rises = hours[4:][moved[4:] - moved[:-4] > 2.0]
    assert 21.0 < hours[np.argmax(moved > moved[0] + 1.0)] < 23.0
    assert rises[0] < hours[np.argmax(moved > 1000.0)]
    assert 40.0 < hours[np.argmax(moved > 1000.0)] < 42.0


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
