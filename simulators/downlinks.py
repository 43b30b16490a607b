"""Downlinks: what a network server is told to send, and what a device does about it.

Topics and messages are those of ChirpStack
(https://www.chirpstack.io/docs/chirpstack/integrations/mqtt.html#scheduling-a-downlink; version 3 the same
without devEui) and of The Things Stack
(https://www.thethingsindustries.com/docs/integrations/other-integrations/mqtt/#publishing-downlink-traffic).
"""

from __future__ import annotations

from collections import deque
from typing import Annotated, Any, NamedTuple

import msgspec

from .servers import Downlink, protowire

TOPICS = (
    "application/+/device/+/command/down",
    "v3/+/devices/+/down/push",
    "v3/+/devices/+/down/replace",
)
"""What a simulator subscribes to; `read` knows the messages of these."""
_HEX = frozenset("0123456789abcdef")
_Port = Annotated[int, msgspec.Meta(ge=1, le=223)]
"""Those above are not the application's (LoRaWAN 1.0.4, 4.3.2)."""


class Command(NamedTuple):
    """Downlinks for one device, behind those it has in its queue, or instead of them (`replace`)."""

    dev_eui: str
    downlinks: tuple[Downlink, ...]
    replace: bool = False


class _OfChirpStack(msgspec.Struct, rename="camel"):
    f_port: _Port
    data: bytes | None = None
    confirmed: bool = False
    dev_eui: str = ""
    id: str = ""
    object: Any = None


class _OfTheThingsStack(msgspec.Struct):
    f_port: _Port
    frm_payload: bytes | None = None
    confirmed: bool = False
    correlation_ids: list[str] = []
    decoded_payload: Any = None


class _Push(msgspec.Struct):
    downlinks: list[_OfTheThingsStack] = []


_CHIRPSTACK = msgspec.json.Decoder(_OfChirpStack)
_THE_THINGS_STACK = msgspec.json.Decoder(_Push)


def read(topic: str, payload: bytes) -> Command:
    """What a message on one of `TOPICS` commands.

    Raises:
        ValueError: nothing that a network server could send; says why.
    """
    try:
        match topic.split("/"):
            case ["application", _, "device", dev_eui, "command", "down"]:
                dev_eui = _eui(dev_eui)
                return Command(dev_eui, (_of_chirpstack(dev_eui, payload),))
            case ["v3", _, "devices", device_id, "down", "push" | "replace" as verb]:
                dev_eui = _eui(device_id.removeprefix("eui-"))
                return Command(dev_eui, _of_the_things_stack(dev_eui, payload), verb == "replace")
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    raise ValueError(f"{topic!r} is no topic of commands")


def _of_chirpstack(dev_eui: str, payload: bytes) -> Downlink:
    in_json = payload.lstrip()[:1] == b"{"
    told = _CHIRPSTACK.decode(payload) if in_json else _in_protobuf(payload)
    if told.dev_eui.lower() not in ("", dev_eui):
        raise ValueError(f"devEui: {told.dev_eui!r} is not the device of the topic, {dev_eui}")
    return Downlink(dev_eui, told.f_port, _payload(told.data, told.object), told.confirmed, told.id)


def _in_protobuf(payload: bytes) -> _OfChirpStack:
    """DownlinkCommand of https://github.com/chirpstack/chirpstack/blob/v4.11.0/api/proto/integration/."""
    fields = protowire.read(payload)
    names = {1: "id", 2: "devEui", 3: "confirmed", 4: "fPort", 5: "data", 6: "object"}
    told: dict[str, Any] = {names[number]: value for number, value in fields.items() if number in names}
    for name in ("id", "devEui"):
        if isinstance(text := told.get(name), bytes):
            told[name] = text.decode()
    told["confirmed"] = bool(told.get("confirmed"))
    return msgspec.convert({"fPort": 0, **told}, _OfChirpStack)


def _of_the_things_stack(dev_eui: str, payload: bytes) -> tuple[Downlink, ...]:
    return tuple(
        Downlink(
            dev_eui,
            told.f_port,
            _payload(told.frm_payload, told.decoded_payload),
            told.confirmed,
            told.correlation_ids[0] if told.correlation_ids else "",
        )
        for told in _THE_THINGS_STACK.decode(payload).downlinks
    )


def _eui(text: str) -> str:
    eui = text.lower()
    if len(eui) != 16 or not _HEX.issuperset(eui):
        raise ValueError(f"{text!r} is no DevEUI")
    return eui


def _payload(data: bytes | None, fields: object) -> bytes:
    if data is None and fields is not None:
        raise ValueError("an object needs a codec at the network server; give the bytes in base64")
    return data or b""


class Mailbox:
    """What waits for devices of class A: one downlink follows each of their uplinks, oldest first.

    It holds up to `limit` downlinks of all devices.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._waiting: dict[str, deque[Downlink]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, command: Command) -> int:
        """Keep its downlinks; how many there was no room for."""
        if command.replace:
            self._size -= len(self._waiting.pop(command.dev_eui, ()))
        taken = command.downlinks[: self._limit - self._size]
        if taken:
            self._waiting.setdefault(command.dev_eui, deque()).extend(taken)
            self._size += len(taken)
        return len(command.downlinks) - len(taken)

    def take(self, dev_eui: str) -> Downlink | None:
        """The next downlink of a device that has just sent something; None when there is none."""
        waiting = self._waiting.get(dev_eui)
        if not waiting:
            return None
        downlink = waiting.popleft()
        self._size -= 1
        if not waiting:
            del self._waiting[dev_eui]
        return downlink
