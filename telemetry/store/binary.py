"""Rows in PostgreSQL's binary COPY format, made in one go: the hot path of ingest. Pure.

Format: https://www.postgresql.org/docs/current/sql-copy.html (Binary Format). Each field is preceded by its
length as int4, -1 for NULL; times are µs since 2000-01-01 UTC; jsonb is a version byte and text.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .lanes import CORRECTED_DTYPE, READING_DTYPE, Readings

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
_2000 = 946_684_800_000_000  # µs from 1970 to 2000
_NULL = b"\xff\xff\xff\xff"


class UplinkRow(NamedTuple):
    """One frame as the table takes it, in the order of its columns in COPY; times in µs since 1970.

    `fields`, `gateways` and `normalized` are JSON in UTF-8.
    """

    time: int
    ns_time: int | None
    ingest_time: int
    id: int
    dedup_key: bytes
    device_id: int
    flags: int
    f_cnt: int | None
    f_port: int | None
    spreading_factor: int | None
    frequency: int | None
    rssi: float | None
    snr: float | None
    battery: float | None
    network: str
    decoded_by: str | None
    problem: str | None
    payload: bytes
    dev_addr: str | None
    topic: str | None
    fields: bytes | None
    gateways: bytes | None
    normalized: bytes | None


UPLINK_COLUMNS = ", ".join(UplinkRow._fields)
READING_COLUMNS = ", ".join(READING_DTYPE.names or ())
CORRECTED_COLUMNS = ", ".join(CORRECTED_DTYPE.names or ())


def array_text(values: Iterable[object]) -> str:
    """An array of numbers or UUIDs as one parameter: a list costs the driver ten times as much."""
    return f"{{{','.join(map(str, values))}}}"


_FIELDS = struct.pack("!h", len(UplinkRow._fields))
_NUMBERS = struct.Struct("!2s iq iq iq iq i16s ii ih iq ih ih ii if if".replace(" ", ""))
_EACH = [struct.Struct(f"!i{code}") for code in (*"qqqq", "16s", *"ihqhhiff")]
_FLOAT4 = struct.Struct("!if").pack
_LENGTH = struct.Struct("!i").pack
_JSONB = struct.Struct("!ic").pack


def uplinks(rows: Iterable[UplinkRow]) -> bytes:
    """The rows, to stand between `HEADER` and `TRAILER`.

    Raises:
        struct.error: a number that its column cannot hold.
    """
    parts: list[bytes] = []
    add = parts.append
    for row in rows:
        (
            time, ns_time, arrival, number, key, device, flags, f_cnt, f_port, factor, hertz, rssi, snr,
            battery, network, decoded_by, problem, payload, dev_addr, topic, fields, gateways,
            normalized,
        ) = row  # fmt: skip
        try:
            add(_NUMBERS.pack(
                _FIELDS, 8, time - _2000, 8, ns_time - _2000, 8, arrival - _2000,  # type: ignore[operator]
                8, number, 16, key, 4, device, 2, flags, 8, f_cnt, 2, f_port, 2, factor, 4, hertz,
                4, rssi, 4, snr,
            ))  # fmt: skip
        except (struct.error, TypeError):  # a NULL among them, mostly
            add(_numbers_and_nulls(row))
        add(_NULL if battery is None else _FLOAT4(4, battery))
        add(_common_texts(network, decoded_by, problem))
        add(_LENGTH(len(payload)))
        add(payload)
        add(_text(dev_addr))
        add(_text(topic))
        for json in (fields, gateways, normalized):
            if json is None:
                add(_NULL)
            else:
                add(_JSONB(len(json) + 1, b"\x01"))
                add(json)
    return b"".join(parts)


def _text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    told = text.encode()
    return _LENGTH(len(told)) + told


@lru_cache(maxsize=1024)
def _common_texts(*texts: str | None) -> bytes:
    """Texts that thousands of rows have in common."""
    return b"".join(map(_text, texts))


def _numbers_and_nulls(row: UplinkRow) -> bytes:
    times = [None if time is None else time - _2000 for time in row[:3]]
    return _FIELDS + b"".join(
        _NULL if value is None else packer.pack(packer.size - 4, value)
        for packer, value in zip(_EACH, [*times, *row[3:13]], strict=True)
    )


def _copy_layout(dtype: np.dtype[np.void]) -> np.dtype[np.void]:
    parts = [
        part
        for name in dtype.names or ()
        for part in ((f"{name} size", ">i4"), (name, dtype[name].newbyteorder(">")))
    ]
    return np.dtype([("fields", ">i2"), *parts])


_LAYOUTS = {dtype: _copy_layout(dtype) for dtype in (READING_DTYPE, CORRECTED_DTYPE)}


def readings(array: Readings) -> bytes:
    """The rows, of `READING_COLUMNS`, or of `CORRECTED_COLUMNS` for readings with `raw`.

    They are to stand between `HEADER` and `TRAILER`.
    """
    rows = np.empty(len(array), _LAYOUTS[array.dtype])
    names = array.dtype.names
    assert names is not None
    rows["fields"] = len(names)
    for name in names:
        rows[f"{name} size"] = array.dtype[name].itemsize
        rows[name] = array[name]
    rows["time"] -= _2000
    return rows.tobytes()
