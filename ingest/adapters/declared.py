"""Adapters that are declared, not written: one for each server of the file that `mapping` reads."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec
from jsonpath import JSONPath, JSONPathError

from telemetry.errors import BadMessage
from telemetry.model import Gateway, RawMessage, Uplink, hash_key, message_key

from .base import (
    HIGHEST_FREQUENCY,
    MILLISECOND,
    SECOND,
    SPREADING_FACTOR,
    Adapter,
    decibels,
    decode_base64,
    decode_hex,
    decode_json,
    degrees,
    epoch,
    hertz,
    hex_eui,
    in_range,
    integer,
    parse_time,
    within,
)
from .base import spreading_factor as spreading_factor_in
from .mapping import GatewayMapping, ServerMapping

_ANY = msgspec.json.Decoder(Any)
_ABSENT = object()


def declared_adapter(server: ServerMapping) -> Adapter:
    """The adapter of one server; its name is the server's."""
    topics = re.compile("|".join(f"(?:{_pattern(topic)})" for topic in server.topics), re.DOTALL)

    def matches(topic: str, payload: bytes) -> bool:
        return topics.fullmatch(topic) is not None

    def parse(message: RawMessage) -> Uplink:
        try:
            return _uplink(server, decode_json(_ANY, message.payload), message)
        except JSONPathError as error:
            problem = f"a JSONPath of {server.name} cannot be followed: {error.args[0]}"
            raise BadMessage("wrong_type", problem) from None

    return Adapter(server.name, matches, parse)


def _pattern(topic_filter: str) -> str:
    """The filter as a regular expression; ``a/#`` covers ``a`` too (MQTT 5, 4.7.1.2)."""
    if topic_filter == "#":
        return ".*"
    stem, open_end = (topic_filter[:-2], "(?:/.*)?") if topic_filter.endswith("/#") else (topic_filter, "")
    return "/".join("[^/]*" if level == "+" else re.escape(level) for level in stem.split("/")) + open_end


def _uplink(server: ServerMapping, body: Any, message: RawMessage) -> Uplink:
    payload = _find(server.payload, body)
    if payload is _ABSENT:
        raise BadMessage("missing_field", f"{server.payload}: missing", field=str(server.payload))
    decode = decode_hex if server.payload_format == "hex" else decode_base64
    identity = [_find(path, body) for path in server.identity]
    known = identity and all(part is not _ABSENT and part is not None for part in identity)
    f_cnt, f_port = _integer(server.f_cnt, body), _integer(server.f_port, body)
    named = {"name": _text(server.device_name, body), "application": _text(server.application, body)}
    return Uplink(
        dedup_key=hash_key(server.name, "up", *(msgspec.json.encode(part) for part in identity))
        if known
        else message_key(message),
        dev_eui=hex_eui(_text(server.dev_eui, body), str(server.dev_eui)),
        network=server.name,
        payload=decode(_text(server.payload, body) or "", str(server.payload)),
        time=_time(server, server.time, body),
        ns_time=_time(server, server.ns_time, body),
        f_cnt=in_range(f_cnt, str(server.f_cnt), 0xFFFFFFFF),
        f_port=in_range(f_port, str(server.f_port), 255),
        dev_addr=_text(server.dev_addr, body),
        spreading_factor=_spreading_factor(server, body),
        frequency=_frequency(server, body),
        gateways=_gateways(server.gateways, body) if server.gateways else (),
        origin={key: value for key, value in named.items() if value},
    )


def _find(path: JSONPath | None, body: Any) -> Any:
    """The first value of the path."""
    match = path.match(body) if path is not None else None
    return match.obj if match is not None else _ABSENT


def _scalar(path: JSONPath | None, body: Any) -> str | float | None:
    found = _find(path, body)
    if found is _ABSENT or found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        kind = "boolean" if isinstance(found, bool) else "array" if isinstance(found, list) else "object"
        raise BadMessage("wrong_type", f"{path}: expected a text or number, got an {kind}", field=str(path))
    return found


def _text(path: JSONPath | None, body: Any) -> str | None:
    found = _scalar(path, body)
    return None if found is None else str(found)


def _integer(path: JSONPath | None, body: Any) -> int | None:
    found = _scalar(path, body)
    if isinstance(found, float):
        if not found.is_integer():
            raise BadMessage("wrong_type", f"{path}: {found!r} is no integer", field=str(path))
        return int(found)
    return integer(found, str(path))


def _time(server: ServerMapping, path: JSONPath | None, body: Any) -> datetime | None:
    if server.time_format == "rfc3339":
        return parse_time(_text(path, body), str(path))
    return epoch(_scalar(path, body), str(path), SECOND if server.time_format == "seconds" else MILLISECOND)


def _spreading_factor(server: ServerMapping, body: Any) -> int | None:
    found = _scalar(server.spreading_factor, body)
    if isinstance(found, str) and not found.isdecimal():
        return spreading_factor_in(found)
    return within(_integer(server.spreading_factor, body), *SPREADING_FACTOR)


def _frequency(server: ServerMapping, body: Any) -> int | None:
    if server.frequency_unit == "MHz":
        return hertz(_scalar(server.frequency, body), str(server.frequency))
    return in_range(_integer(server.frequency, body), str(server.frequency), HIGHEST_FREQUENCY)


def _gateways(mapping: GatewayMapping, body: Any) -> tuple[Gateway, ...]:
    return tuple(
        Gateway(
            id=_text(mapping.id, heard) or "",
            rssi=decibels(_scalar(mapping.rssi, heard)),
            snr=decibels(_scalar(mapping.snr, heard)),
            latitude=degrees(_scalar(mapping.latitude, heard), 90),
            longitude=degrees(_scalar(mapping.longitude, heard), 180),
        )
        for heard in mapping.each.findall(body)
    )
