"""Every built-in codec: its vectors, its papers, its device types."""

import tomllib
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from decoders.datalog import compile_datalog
from decoders.device_types import DeviceType, Variable, builtin_device_types
from decoders.normalise import normalise
from decoders.registry import GROUP, load_codecs
from decoders.vectors import VectorResult, read_vectors, run_vectors
from telemetry.plugin import Codec, Field
from tests.decoders.papers import lacking

ROOT = Path(__file__).parents[2]
BUILTIN = ROOT / "decoders" / "builtin"
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
REGISTRY = load_codecs(EntryPoint(name, value, GROUP) for name, value in DECLARED.items())


def _folder(codec_id: str) -> Path:
    return BUILTIN / codec_id.replace("-", "_")


def _results() -> list[tuple[Codec, VectorResult]]:
    return [
        (codec, result)
        for codec in REGISTRY.codecs.values()
        for result in run_vectors(codec, _folder(codec.id))
    ]


def test_every_declared_codec_loads() -> None:
    assert REGISTRY.problems == ()
    assert REGISTRY.ids() == sorted(DECLARED)


def test_every_folder_is_declared() -> None:
    folders = {file.parent for file in BUILTIN.glob("*/codec.py")}
    assert folders == {_folder(codec_id) for codec_id in DECLARED}


@pytest.mark.parametrize(
    "result", [pytest.param(result, id=f"{codec.id}: {result.name}") for codec, result in _results()]
)
def test_vector(result: VectorResult) -> None:
    assert result.passed, result.difference


@pytest.mark.parametrize("codec_id", sorted(DECLARED))
def test_papers(codec_id: str) -> None:
    folder = _folder(codec_id)
    file = read_vectors(folder)
    readme = folder / "README.md"

    vendor = [vector for vector in file.vectors if vector.origin == "vendor"]
    assert vendor
    assert all(vector.source for vector in vendor)
    assert {vector.origin for vector in file.vectors} == {"vendor", "layout"}
    assert any(vector.payload == "" and vector.error for vector in file.vectors)
    faults = [
        f"{readme.relative_to(ROOT)} {fault}" for fault in lacking(readme.read_text("utf-8"), file.source)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("type_id", sorted(builtin_device_types()))
def test_device_type_maps_vectors_of_its_codec(type_id: str) -> None:
    device_type = builtin_device_types()[type_id]
    vectors = read_vectors(_folder(device_type.codec)).vectors

    normalised = [normalise(v.fields, device_type, {}) for v in vectors if v.fields is not None]

    assert {value.metric for one in normalised for value in one.values} >= _always(device_type)
    assert not [problem for one in normalised for problem in one.problems]


def _always(device_type: DeviceType) -> set[str]:
    """The metrics that need no variable of the device, and are no datalog's."""
    return {
        entry.metric
        for entry in device_type.mapping
        if not isinstance(entry.offset, Variable) and entry.records is None
    }


def test_every_codec_has_a_device_type() -> None:
    assert {device_type.codec for device_type in builtin_device_types().values()} == set(DECLARED)


def _values(type_id: str, f_port: int, payload: str, **variables: float) -> dict[tuple[str, int], float]:
    device_type = builtin_device_types()[type_id]
    fields = REGISTRY.get(device_type.codec).decode(f_port, bytes.fromhex(payload))
    return {(v.metric, v.channel): v.value for v in normalise(fields, device_type, variables).values}


def test_rain_is_the_vendors_millimetres() -> None:
    # Decentlab's example: 0.4 mm, 1653.8 mm, 3.156 V at a resolution of 0.1 mm.
    assert _values("decentlab-dl-tbrg-0.1", 1, "0202f8000300040258409a00000c54") == {
        ("rain.total", 0): 1653.8,
        ("rain.interval", 0): 0.4,
        ("battery.voltage", 0): 3.156,
    }


def test_river_level_is_elevation_less_distance() -> None:
    frame = "0B45 0B05 00 0105 01"
    level = {("water.level", 0): 12.5 - 2.821, ("distance", 0): 2.821, ("battery.voltage", 0): 2.885}
    assert _values("dragino-ldds75", 2, frame, sensor_elevation_m=12.5) == level
    del level["water.level", 0]
    assert _values("dragino-ldds75", 2, frame) == level


def test_depth_of_a_submerged_sensor_is_a_level_too() -> None:
    frame = "0207d9000390888081006400000c60"
    values = _values("decentlab-dl-ctd10", 1, frame, sensor_elevation_m=-2.0)
    assert values["water.level", 0] == 2.232
    assert values["water.depth", 0] == 4.232


def test_a_profile_has_the_depth_as_channel() -> None:
    frame = "020b50000309018a8c09438a9809278a920b3c8aa50c9c8a8c11e08aa500000000000000000b3b"
    values = _values("decentlab-dl-smtp", 1, frame)
    assert values["soil.moisture", 5] == 4.152
    assert values["soil.temperature", 5] == 27.25
    assert ("soil.moisture", 6) not in values


def test_a_logger_scales_what_an_analog_input_cannot_say() -> None:
    frame = "0102 02C6 0202 01F4 0402 01C2 0702 09C4"
    assert _values("cayenne-lpp-water-quality", 1, frame) == {
        ("water.ph", 0): 7.1,
        ("water.dissolved_oxygen", 0): 5,
        ("water.conductivity", 0): 4500,
        ("water.cod", 0): 250,
    }


def test_history_has_the_times_of_its_records() -> None:
    device_type = builtin_device_types()["milesight-em300"]
    codec = REGISTRY.get(device_type.codec)
    times = [1_792_000_000 + 600 * n for n in range(3)]
    records: list[Field] = [{"timestamp": t, "temperature": 30.04, "humidity": 79.9} for t in times]
    read = compile_datalog(device_type)
    assert read is not None

    log = read(codec.decode(*codec.encode({"history": records})), datetime(2026, 12, 1, tzinfo=UTC), {})

    assert not log.problems
    assert [(one.time.timestamp(), one.metric, one.value) for one in log.readings] == [
        (time, metric, value)
        for time in times
        for metric, value in (("air.temperature", 30.0), ("air.humidity", 80.0))
    ]


def test_air_pressure_is_in_hectopascal() -> None:
    station = _values("decentlab-dl-atm41", 1, "02 035a 0001" + 9 * "0000" + "a57c" + 7 * "0000")
    assert station == {("air.pressure", 0): pytest.approx(959.6)}
    assert _values("decentlab-dl-pm", 1, "021b50000d0c2567bd618dbd10")["air.pressure", 0] == 968


def test_leak_and_door_are_0_or_1() -> None:
    assert _values("milesight-em300", 85, "050001 060000") == {("water.leak", 0): 1, ("door.open", 0): 0}
