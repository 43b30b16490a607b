"""Messages without what tells whose they are: a device stays one device, and nobody learns which. Pure.

Identifiers, names and places are replaced by what a secret key makes of them (HMAC-SHA-256): equal ones
stay equal, also across topic, payload, upper and lower case, and other files with the same key. What is kept
is listed here; any text that is not listed is replaced. What a device wrote into its own payload stays.
"""

from __future__ import annotations

import hmac
import json
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from telemetry.errors import UsageError

from .message import Message, is_json

_EUI = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{2}(?:[:-]?[0-9a-fA-F]{2}){7}(?![0-9A-Za-z])")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_HEX = re.compile(r"[0-9a-fA-F]{6,}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?s?")
_IDENTIFIER = re.compile(
    r"eui|addr|mac$|serial|imei|imsi|iccid|phone|customer|owner|(?:^|_)id$|ID$|[a-z]Id$|^(?:Lrr|Lrc|F)id$|SN$|^sn$",
)
_IGNORING_CASE = re.compile(r"eui|addr|serial|imei|imsi|iccid|phone|customer|owner", re.IGNORECASE)
_LATITUDE = re.compile(r"lat|latitude|(?:Lrr|Dev)LAT|gps_?lat(?:itude)?", re.IGNORECASE)
_LONGITUDE = re.compile(r"lon|lng|long|longitude|(?:Lrr|Dev)LON|gps_?(?:lon|lng|longitude)", re.IGNORECASE)
_HEIGHT = re.compile(r"alt|altitude|(?:Lrr|Dev)ALT", re.IGNORECASE)
_OBJECTS = frozenset({"object", "decoded_payload", "normalized_payload", "decoded", "objectJSON"})
_GATEWAYS = ("gatewayId", "gatewayID", "mac", "gweui", "gwEui", "GatewayEui", "gateway", "Lrrid", "id")
_DEVICES = ("devEui", "devEUI", "dev_eui", "DevEUI", "DevEui", "EUI", "device", "device_addr")
_KEPT_BYTES = frozenset(
    {"data", "frm_payload", "payload", "payload_hex", "pdu", "PayloadData", "encrypted_payload"}
)
_KEPT = frozenset({
    "codeRate", "code_rate", "coding_rate", "coderate", "codingRate", "CodeRate", "modulation",
    "Modulation", "crcStatus", "crc_status", "source", "type", "Type", "MType", "cmd", "status", "code",
    "level", "dr", "datr", "datarate", "dataRate", "spreading", "encodingType", "rfRegion",
    "region_config_id", "regionConfigId", "region_common_name", "region_name", "deviceClassEnabled",
    "band_id",
    "brand_id", "model_id", "firmware_version", "hardware_version", "fineTimestampType", "priority",
    "Channel", "SubBand", "DynamicClass", "Major", "net_id", "forwarder_net_id", "home_network_net_id",
})  # fmt: skip
_WORDS = frozenset({
    "application", "device", "event", "up", "join", "status", "ack", "txack", "log", "location",
    "error", "integration", "rx", "tx", "down", "command", "gateway", "state", "conn", "stats", "raw",
    "exec", "v3", "devices", "queued", "sent", "failed", "nack", "push", "replace", "invalidated",
    "service", "data", "normalized", "thingpark", "lora", "uplink", "notification", "iot", "lorawan",
    "helium", "wanesy", "dataUp", "loriot", "app", "senet", "milesight", "mqtttest", "everynet",
    "kerlink",
})  # fmt: skip
_KEPT_VALUES = frozenset({"", "true", "false"})
_WORD = re.compile(r"[A-Za-z0-9_./+ -]{1,40}")
_BYTES = re.compile(r"(?:[0-9a-fA-F]{2})+|(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3}={0,2})?")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)")
_NEAREST, _FURTHEST = 0.02, 0.09  # degrees; some 2 to 10 km
_SHORTEST_KEY = 16
_REMEMBERED = 100_000


class NotAnonymous(ValueError):
    """The payload is of a format in which nobody here can find what is to be replaced."""


class Anonymiser:
    """Replaces identifiers, names and places by what `key` makes of them.

    Raises:
        UsageError: a key of under 16 bytes, which could be guessed.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < _SHORTEST_KEY:
            raise UsageError(f"the key has {len(key)} bytes; {_SHORTEST_KEY} random ones are needed at least")
        self._key = key
        self._known: dict[str, str] = {}
        self._gateway: str | None = None

    def message(self, message: Message) -> Message:
        """The message without what tells whose it is.

        Raises:
            NotAnonymous: the payload is no JSON.
        """
        if not is_json(message.payload):
            raise NotAnonymous("the payload is no JSON")
        try:
            body = json.loads(message.payload) if message.payload.strip() else None
        except (ValueError, RecursionError):
            raise NotAnonymous("the payload is no JSON") from None
        payload = b""
        if body is not None:
            self._gateway = _found(body, ("gateway",))
            try:
                told = self._walk(body, "", _found(body, _DEVICES) or message.topic, decoded=False)
                payload = _json(told).encode()
            except (ValueError, RecursionError):
                raise NotAnonymous("the payload is no JSON: it has numbers that JSON does not know") from None
        return replace(message, topic=self.topic(message.topic), payload=payload)

    def topic(self, topic: str) -> str:
        """Its levels replaced, but for the words that network servers use."""
        return "/".join(self._level(level) for level in topic.split("/"))

    def alias(self, text: str) -> str:
        """What stands for `text`, of the same kind: EUI, UUID, hex, digits, base64, else a short name."""
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[text] = self._made(text)
        return known

    def _level(self, level: str) -> str:
        if not level or level in _WORDS:
            return level
        if "@" in level:  # The Things Stack: application@tenant
            return "@".join(self.alias(part) for part in level.split("@"))
        return self.alias(level)

    def _walk(self, value: Any, key: str, owner: str, *, decoded: bool) -> Any:
        if isinstance(value, dict):
            return self._object(value, owner, decoded=decoded)
        if isinstance(value, list):
            return [self._walk(one, key, owner, decoded=decoded) for one in value]
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, str):
            return self._text(value, key, owner, decoded=decoded)
        if _is_identifier(key) and not decoded:
            return int(self._digits(str(value)))
        return value

    def _object(self, value: Mapping[str, Any], owner: str, *, decoded: bool) -> dict[str, Any]:
        owner = _owner(value) or owner
        placed = any(_LATITUDE.fullmatch(key) for key in value)
        made: dict[str, Any] = {}
        for key, one in value.items():
            name = _EUI.sub(lambda found: self.alias(found[0]), key)
            inside = decoded or key in _OBJECTS
            if (moved := self._moved(key, one, owner)) is not None:
                made[name] = moved
            elif placed and _HEIGHT.fullmatch(key):
                continue  # with the region it could tell the place
            elif key == "objectJSON" and isinstance(one, str):
                made[name] = self._nested(one, owner)
            elif key == "hardware":  # Everynet tells the gateway elsewhere
                made[name] = self._walk(one, key, self._gateway or owner, decoded=inside)
            else:
                made[name] = self._walk(one, key, owner, decoded=inside)
        return made

    def _nested(self, text: str, owner: str) -> str:
        """An object as a text, as ChirpStack v3 may write it."""
        try:
            return _json(self._walk(json.loads(text), "", owner, decoded=True))
        except (ValueError, RecursionError):
            return self.alias(text) if text else text

    def _text(self, text: str, key: str, owner: str, *, decoded: bool) -> str:
        if text in _KEPT_VALUES or _TIME.fullmatch(text):
            return text
        if not decoded and key in _KEPT_BYTES and _BYTES.fullmatch(text):
            return text
        if not decoded and key in _KEPT and _WORD.fullmatch(text) and not _EUI.search(text):
            return text
        if _is_identifier(key) and (raw := _short_base64(text)):
            return b64encode(bytes.fromhex(self.alias(raw.hex()))).decode()
        if _NUMBER.fullmatch(text) and not _is_identifier(key) and not _EUI.fullmatch(text):
            return text
        return self.alias(text)

    def _moved(self, key: str, value: Any, owner: str) -> Any:
        """A coordinate moved as all of its owner are; None where it is none."""
        latitude = _LATITUDE.fullmatch(key)
        if not latitude and not _LONGITUDE.fullmatch(key):
            return None
        try:
            degrees = float(value)
        except (TypeError, ValueError):
            return None
        if isinstance(value, bool) or not degrees or not math.isfinite(degrees):
            return None  # 0 is what servers write for a place that is not known
        highest = 90.0 if latitude else 180.0
        moved = round(degrees + self._offset(owner, "latitude" if latitude else "longitude"), 5)
        moved = max(-highest, min(highest, moved))
        return str(moved) if isinstance(value, str) else moved

    def _offset(self, owner: str, axis: str) -> float:
        drawn = int.from_bytes(self._digest(f"{axis}:{_canonical(owner)}")[:8], "big")
        share = (drawn >> 1) / 2**63
        return (1 if drawn & 1 else -1) * (_NEAREST + share * (_FURTHEST - _NEAREST))

    def _made(self, text: str) -> str:
        if _EUI.fullmatch(text) or _UUID.fullmatch(text):
            return self._hex(text)
        if (found := _EUI.search(text)) and text.lower() == f"eui-{found[0].lower()}":
            return text[:4] + self._hex(found[0])
        if _HEX.fullmatch(text) and not text.isdecimal():
            return self._hex(text)
        digest = self._digest(text)
        if text.isdecimal():
            if len(text) == 8:  # a DevAddr may have no letter
                return self._hex(text)
            return self._digits(text)
        if _BASE64.fullmatch(text):
            size = len(b64decode(text))
            return b64encode((digest * (size // len(digest) + 1))[:size]).decode()
        return f"x{digest[:8].hex()}"

    def _digits(self, text: str) -> str:
        """Ten of them: few could be guessed, or be themselves."""
        return str(10**9 + int.from_bytes(self._digest(text)[:8], "big") % 10**9)

    def _hex(self, text: str) -> str:
        """Hex digits of the same number, case and separators; the same for all ways to write it."""
        digest = self._digest(_canonical(text)).hex()
        count = sum(sign not in ":-" for sign in text)
        while len(digest) < count:
            digest += self._digest(digest).hex()
        signs = iter(digest.upper() if text != text.lower() else digest)
        return "".join(sign if sign in ":-" else next(signs) for sign in text)

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")


def _is_identifier(key: str) -> bool:
    return bool(_IDENTIFIER.search(key) or _IGNORING_CASE.search(key))


def _canonical(text: str) -> str:
    return text.lower().replace(":", "").replace("-", "")


def _short_base64(text: str) -> bytes | None:
    """The 4 or 8 bytes of a DevAddr or an EUI that protobuf's JSON wrote in base64."""
    if len(text) not in (8, 12) or not text.endswith("="):
        return None
    try:
        raw = b64decode(text, validate=True)
    except ValueError:
        return None
    return raw if len(raw) in (4, 8) else None


def _owner(value: Mapping[str, Any]) -> str | None:
    """The gateway or device that the places in an object are of."""
    ids = value.get("gateway_ids")
    if isinstance(ids, dict):
        return _told(ids, ("eui", "gateway_id"))
    return _told(value, _GATEWAYS) or _told(value, _DEVICES)


def _found(value: Any, names: Iterable[str], deeper: int = 2) -> str | None:
    """The same, in an object or what is in it."""
    if not isinstance(value, dict):
        return None
    if (told := _told(value, names)) or not deeper:
        return told
    return next((told for one in value.values() if (told := _found(one, names, deeper - 1))), None)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _told(value: Mapping[str, Any], names: Iterable[str]) -> str | None:
    return next((told for name in names if isinstance(told := value.get(name), str) and told), None)
