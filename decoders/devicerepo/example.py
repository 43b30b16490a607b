"""The input of an example: the same object of TS013 in both repositories."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict

import msgspec

from telemetry.clock import micros

Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class Input(msgspec.Struct, frozen=True, rename="camel"):
    """`recv_time` is in UTC unless it says another zone."""

    bytes: list[Byte] = []
    f_port: Byte | None = None
    recv_time: datetime | None = None
    variables: dict[str, Any] = {}
    data: Any = None


class Given(TypedDict):
    """The members of `Vector` that an input fills."""

    payload: bytes
    f_port: int | None
    recv_time_us: int | None
    variables: dict[str, Any]
    data: Any
    more: dict[str, Any]


_KNOWN = {field.encode_name for field in msgspec.structs.fields(Input)}


def given(read: Input, raw: dict[str, Any]) -> Given:
    """`raw` is what `read` was read from; what it has beside is in `more`."""
    return Given(
        payload=bytes(read.bytes),
        f_port=read.f_port,
        recv_time_us=None if read.recv_time is None else micros(_aware(read.recv_time)),
        variables=read.variables,
        data=read.data,
        more={str(name): value for name, value in raw.items() if name not in _KNOWN},
    )


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
