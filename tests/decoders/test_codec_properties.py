"""What holds for every frame: encoding inverts decoding, and nothing but DecodeError comes out of noise."""

import math
import struct
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from decoders.builtin.cayenne_lpp.codec import CODEC as CAYENNE
from decoders.builtin.decentlab import Decentlab, Number, Sensor
from decoders.builtin.decentlab_dl_atm41.codec import CODEC as DL_ATM41
from decoders.builtin.decentlab_dl_atm41g2.codec import CODEC as DL_ATM41G2
from decoders.builtin.decentlab_dl_ctd10.codec import CODEC as DL_CTD10
from decoders.builtin.decentlab_dl_ctd10b.codec import CODEC as DL_CTD10B
from decoders.builtin.decentlab_dl_mbx.codec import CODEC as DL_MBX
from decoders.builtin.decentlab_dl_ntu.codec import CODEC as DL_NTU
from decoders.builtin.decentlab_dl_optod.codec import CODEC as DL_OPTOD
from decoders.builtin.decentlab_dl_pheht.codec import CODEC as DL_PHEHT
from decoders.builtin.decentlab_dl_pm.codec import CODEC as DL_PM
from decoders.builtin.decentlab_dl_smtp.codec import CODEC as DL_SMTP
from decoders.builtin.decentlab_dl_tbrg.codec import CODEC as DL_TBRG
from decoders.builtin.dragino_ldds75.codec import CODEC as LDDS75
from decoders.builtin.milesight_em300.codec import CODEC as EM300
from telemetry.plugin import Codec, DecodeError, Field, Fields

DECENTLAB = [
    *(DL_ATM41, DL_ATM41G2, DL_CTD10, DL_CTD10B, DL_MBX, DL_NTU),
    *(DL_OPTOD, DL_PHEHT, DL_PM, DL_SMTP, DL_TBRG),
]
CODECS: list[Codec] = [CAYENNE, *DECENTLAB, LDDS75, EM300]


def _steps(low: int, high: int, per_unit: int = 1) -> st.SearchStrategy[float]:
    """All numbers a frame can hold: whole steps from `low` to `high`, in units."""
    return st.integers(low, high).map(lambda raw: raw if per_unit == 1 else raw / per_unit)


U8, U16, U32 = _steps(0, 255), _steps(0, 0xFFFF), _steps(0, 0xFFFFFFFF)


def _int16(per_unit: int) -> st.SearchStrategy[float]:
    return _steps(-0x8000, 0x7FFF, per_unit)


def _axes(per_unit: int) -> st.SearchStrategy[Fields]:
    return st.fixed_dictionaries({axis: _int16(per_unit) for axis in "xyz"})


def _int24(per_unit: int) -> st.SearchStrategy[float]:
    return _steps(-0x800000, 0x7FFFFF, per_unit)


_LPP_TYPES: dict[str, st.SearchStrategy[Field]] = {
    "digital_in": U8,
    "digital_out": U8,
    "analog_in": _int16(100),
    "analog_out": _int16(100),
    "luminosity": U16,
    "presence": U8,
    "temperature": _int16(10),
    "relative_humidity": _steps(0, 255, 2),
    "accelerometer": _axes(1000),
    "barometric_pressure": _steps(0, 0xFFFF, 10),
    "gyrometer": _axes(100),
    "gps": st.fixed_dictionaries(
        {"latitude": _int24(10_000), "longitude": _int24(10_000), "altitude": _int24(100)}
    ),
}


@st.composite
def _lpp_fields(draw: st.DrawFn) -> Fields:
    keys = st.tuples(st.sampled_from(sorted(_LPP_TYPES)), st.integers(0, 255))
    chosen = draw(st.lists(keys, min_size=1, max_size=8, unique=True))
    return {f"{kind}_{channel}": draw(_LPP_TYPES[kind]) for kind, channel in chosen}


@given(_lpp_fields())
def test_cayenne_lpp_round_trip(fields: Fields) -> None:
    assert CAYENNE.decode(*CAYENNE.encode(fields)) == fields


@given(
    st.fixed_dictionaries(
        {"battery_voltage": _steps(0, 0x3FFF, 1000), "interrupt": st.booleans()},
        optional={"temperature_ds18b20": _steps(-550, 1250, 10)},
    ),
    st.one_of(
        st.builds(
            lambda mm: {"distance_mm": mm, "distance_status": "ok", "sensor_detected": True},
            st.integers(280, 0xFFFF),
        ),
        st.just({"distance_status": "too_near", "sensor_detected": True}),
        st.builds(
            lambda flag: {"distance_status": "no_sensor", "sensor_detected": flag},
            st.booleans(),
        ),
    ),
)
def test_ldds75_round_trip(rest: Fields, distance: Fields) -> None:
    fields = rest | distance
    assert LDDS75.decode(*LDDS75.encode(fields)) == fields


def _readings(number: Number) -> st.SearchStrategy[Field]:
    return st.integers(0, (1 << 16 * number.words) - 1).map(number.read)


def _sensor_fields(sensor: Sensor) -> st.SearchStrategy[Fields]:
    """What a sensor can tell: a number that has no reading is left out, but one at least is there."""
    everything = st.fixed_dictionaries({number.name: _readings(number) for number in sensor.numbers})
    return everything.map(_without_none).filter(bool)


def _without_none(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


@pytest.mark.parametrize("codec", DECENTLAB, ids=lambda codec: codec.id)
@settings(max_examples=30)
@given(data=st.data(), device_id=U16)
def test_decentlab_round_trip(codec: Decentlab, data: st.DataObject, device_id: int) -> None:
    sensors = data.draw(st.lists(st.sampled_from(codec.sensors), min_size=1, unique=True))
    fields: Fields = {"device_id": device_id}
    for sensor in sensors:
        fields |= data.draw(_sensor_fields(sensor))
    assert codec.decode(*codec.encode(fields)) == fields


@given(st.floats(-46.85, 128.86), st.floats(-6, 118.99))
def test_dl_pm_climate_is_encoded_to_the_nearest_step(temperature: float, humidity: float) -> None:
    fields = {"device_id": 1, "air_temperature": temperature, "air_humidity": humidity}
    decoded = DL_PM.decode(*DL_PM.encode(fields))
    # Half a step of the formulas; a whole one at the very top, where the word ends at 65535.
    assert decoded["air_temperature"] == pytest.approx(temperature, abs=175.72 / 65536)
    assert decoded["air_humidity"] == pytest.approx(humidity, abs=125 / 65536)
    assert DL_PM.encode(decoded) == DL_PM.encode(fields)


_MEASURED = {"temperature": _int16(10), "humidity": _steps(0, 255, 2)}
_ENTRY = st.fixed_dictionaries({"timestamp": U32, **_MEASURED, "status": st.booleans()}).map(
    lambda entry: (
        entry
        if entry["temperature"] or entry["humidity"]
        else {"timestamp": entry["timestamp"], "status": entry["status"]}
    )
)
_EM300_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "battery": U8,
        **_MEASURED,
        "leak": st.booleans(),
        "door_open": st.booleans(),
        "history": st.lists(_ENTRY, min_size=1, max_size=4),
        "protocol_version": U8,
        "serial_number": st.binary(min_size=8, max_size=8).map(bytes.hex),
        "hardware_version": st.tuples(U8, st.integers(0, 15)).map(lambda v: f"{v[0]}.{v[1]:x}"),
        "software_version": st.tuples(U8, U8).map(lambda v: f"{v[0]}.{v[1]:x}"),
        "device_class": st.sampled_from("ABC"),
    },
).filter(bool)


# What a simulated sensor gives its codec, and the step of the frame in that field.
_UNROUNDED: list[tuple[Codec, Fields, str, float, float, float]] = [
    (CAYENNE, {}, "analog_in_1", -327.68, 327.67, 0.01),
    (CAYENNE, {}, "temperature_1", -40, 60, 0.1),
    (CAYENNE, {}, "relative_humidity_1", 0, 100, 0.5),
    (LDDS75, {"battery_voltage": 3.4567}, "distance_mm", 280, 7500, 1),
    (LDDS75, {"distance_mm": 1234.5}, "battery_voltage", 2.1, 3.7, 0.001),
    (EM300, {}, "temperature", -30, 70, 0.1),
    (EM300, {"temperature": 31.24}, "humidity", 0, 100, 0.5),
    (EM300, {}, "battery", 0, 100, 1),
    (DL_TBRG, {"tips": 3.7}, "tips_total", 0, 1e7, 1),
    (DL_PM, {"pm2_5_mass_concentration": 25.04}, "pm10_mass_concentration", 0, 1000, 0.1),
    (DL_PM, {}, "barometric_pressure", 60_000, 110_000, 2),
    (DL_ATM41, {}, "air_temperature", -40, 50, 0.1),
    (DL_ATM41, {"air_temperature": 20}, "precipitation", 0, 32, 0.001),
    (DL_ATM41G2, {"precipitation": 0.2}, "cumulative_precipitation", 0, 1e6, 0.001),
    (DL_CTD10B, {}, "electrical_conductivity", 0, 120_000, 2),
    (DL_OPTOD, {}, "oxygen_concentration", 0, 20, 0.01),
    (DL_PHEHT, {"ph": 7}, "redox", -1400, 1400, 0.1),
    (DL_CTD10, {"electrical_conductivity": 99.5}, "water_depth", -10, 10_000, 1),
    (DL_SMTP, {}, "soil_moisture_at_depth_0", 0, 60, 0.002),
    (DL_NTU, {}, "turbidity_in_ntu", 0, 4000, 0.1),
    (DL_MBX, {}, "distance", 300, 10_000, 1),
]


@pytest.mark.parametrize(
    ("codec", "others", "field", "low", "high", "step"),
    [pytest.param(*row, id=f"{row[0].id} {row[2]}") for row in _UNROUNDED],
)
@settings(max_examples=30)
@given(share=st.floats(0, 1))
def test_encode_rounds_to_the_nearest_step(
    codec: Codec, others: Fields, field: str, low: float, high: float, step: float, share: float
) -> None:
    value = low + share * (high - low)
    decoded = codec.decode(*codec.encode({**others, field: value}))[field]
    assert isinstance(decoded, (int, float))
    assert abs(decoded - value) <= 0.5001 * step


@given(_EM300_FIELDS)
def test_em300_round_trip(fields: Fields) -> None:
    assert EM300.decode(*EM300.encode(fields)) == fields


def _lpp_like(channels: list[tuple[int, int]]) -> st.SearchStrategy[bytes]:
    """Frames of real channels and types with random values, so that noise gets past the first byte."""
    record = st.tuples(st.sampled_from(channels), st.binary(min_size=0, max_size=9))
    return st.lists(record, max_size=5).map(lambda rows: b"".join(bytes(key) + raw for key, raw in rows))


_NOISE = st.one_of(
    st.binary(max_size=60),
    _lpp_like([(1, code) for code in (0, 1, 2, 3, 101, 102, 103, 104, 113, 115, 134, 136)]),
    _lpp_like([(1, 0x75), (3, 0x67), (4, 0x68), (5, 0), (6, 0), (0x20, 0xCE), (0xFF, 0x16), (0xFF, 0x0F)]),
    st.builds(
        lambda flags, words: b"\x02\x00\x01" + bytes((0, flags)) + words,
        st.integers(0, 15),
        st.binary(max_size=30) | st.sampled_from([2, 4, 6, 8, 10, 32, 34]).map(bytes),
    ),
)


def _numbers(value: Field) -> Iterator[float]:
    if isinstance(value, (int, float)):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _numbers(item)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.id)
@given(f_port=st.one_of(st.sampled_from([1, 2, 85]), st.integers(0, 255)), payload=_NOISE)
@example(f_port=1, payload=b"")
def test_noise_gives_finite_fields_or_decode_error(codec: Codec, f_port: int, payload: bytes) -> None:
    try:
        fields = codec.decode(f_port, payload)
    except DecodeError:
        return
    assert fields
    assert all(math.isfinite(number) for number in _numbers(fields))
    assert codec.decode(f_port, payload) == fields


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab1. ", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1. ", max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
_NAMES = [
    *("temperature_1", "gps_1", "temperature", "humidity", "leak", "history", "serial_number"),
    *("battery_voltage", "distance_mm", "distance_status", "interrupt", "tips", "interval_s", "tips_total"),
    *("device_id", "air_temperature", "air_humidity", "barometric_pressure", "hardware_version"),
]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.id)
@given(fields=st.dictionaries(st.sampled_from(_NAMES), _ANY, max_size=3))
@example(fields={"device_id": 1, "air_temperature": 10**400, "air_humidity": 1})
@example(fields={"device_id": 1, "barometric_pressure": 10**400})
@example(fields={"battery_voltage": float("nan"), "distance_mm": 300})
@example(fields={"temperature_1": float("inf")})
def test_encode_makes_a_frame_or_raises_decode_error(codec: Codec, fields: Fields) -> None:
    try:
        f_port, payload = codec.encode(fields)
    except DecodeError:
        return
    assert codec.decode(f_port, payload)


@pytest.mark.parametrize(
    ("codec", "fields", "message"),
    [
        (CAYENNE, {"temperature_1": 4000}, "temperature_1: 4000 is outside -3276.8 to 3276.7"),
        (CAYENNE, {"temperature_256": 1}, "temperature_256: not a type and a channel"),
        (CAYENNE, {"gps_1": 3}, "gps_1: needs latitude, longitude, altitude, got 3"),
        (CAYENNE, {"gps_1": {"latitude": 1}}, "gps_1: longitude: a number is needed, got None"),
        (LDDS75, {"battery_voltage": 3.6, "distance_mm": 7e4}, "distance_mm: 70000.0 is outside"),
        (LDDS75, {"battery_voltage": 3.6}, "distance_mm: a number is needed"),
        (LDDS75, {"battery_voltage": 3.6, "distance_status": "far"}, "distance_status: 'far'"),
        (LDDS75, {"battery": 3.6}, "battery: not in this frame"),
        (DL_TBRG, {"device_id": 1}, "fields: a message carries at least one sensor"),
        (DL_TBRG, {"device_id": 1, "tips": 1}, "tips_total: a number is needed"),
        (DL_PM, {"device_id": -1, "battery_voltage": 3}, "device_id: -1 is outside 0 to 65535"),
        (DL_PM, {"pm10_mass_concentration": 3}, "pm2_5_mass_concentration: a number is needed"),
        (DL_ATM41, {"air_temperature": -3276.8}, "air_temperature: -3276.8 is outside -3276.7 to 3276.7"),
        (DL_CTD10, {"water_depth": 1}, "electrical_conductivity: a number is needed"),
        (
            DL_PM,
            {"device_id": 1, "air_temperature": 200, "air_humidity": 1},
            "air_temperature: 200 is outside",
        ),
        (EM300, {"leak": "yes"}, "leak: true or false is needed"),
        (EM300, {"serial_number": "12"}, "serial_number: '12' does not fit 8 bytes"),
        (EM300, {"history": [1]}, "history: an entry is an object"),
        (EM300, {"history": [{"temperature": 20}]}, "timestamp: a number is needed"),
        (EM300, {}, "no fields"),
    ],
)
def test_encode_names_the_field(codec: Codec, fields: Fields, message: str) -> None:
    with pytest.raises(DecodeError) as raised:
        codec.encode(fields)
    assert message in str(raised.value)


def test_ldds75_under_water_is_too_near() -> None:
    for distance in (279.4, 0, -1500.0):
        fields = LDDS75.decode(*LDDS75.encode({"battery_voltage": 3.6, "distance_mm": distance}))
        assert fields["distance_status"] == "too_near"
        assert "distance_mm" not in fields


def test_decentlab_says_what_was_not_measured() -> None:
    fields = DL_ATM41.decode(*DL_ATM41.encode({"wind_speed": 3.14159, "wind_direction": 0}))
    assert fields == {"device_id": 0, "wind_speed": 3.14, "wind_direction": 0}


def test_em300_temperature_is_signed_little_endian() -> None:
    frame = b"\x03\x67" + struct.pack("<h", -125)
    assert EM300.decode(85, frame) == {"temperature": -12.5}
