"""Kinds of fields the routes share, checked so that whatever passes can be stored."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar

from fastapi import Query
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from .problems import invalid

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?(?P<offset>[Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_EUI = re.compile(r"[0-9a-f]{16}")
_DEEPEST = 20
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)


class Body(BaseModel):
    """What a PUT or POST brings. An unknown key is refused: a misspelt one would silently mean "nothing".

    `read_only` names what GET shows beside; it is let through unread, so that an answer can be sent back.
    """

    model_config = ConfigDict(extra="forbid")
    read_only: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_read_only(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if key not in cls.read_only}
        return data


def storable(text: str) -> str:
    """The text itself; ValueError when it holds what the store has no place for."""
    if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError("holds a character that cannot be stored (U+0000 or half of a surrogate pair)")
    return text


def _composed(text: str) -> str:
    """In NFC, the form in which imported names and typed words are compared."""
    return unicodedata.normalize("NFC", text)


def _plain_json(node: Any, depth: int = 0) -> Any:
    """What another room checks next may then be stored, compared and told in an answer, whatever it says."""
    if depth > _DEEPEST:
        raise ValueError(f"is nested more than {_DEEPEST} levels deep")
    if isinstance(node, str):
        storable(node)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            storable(key)
            _plain_json(value, depth + 1)
    elif isinstance(node, list):
        for value in node:
            _plain_json(value, depth + 1)
    elif isinstance(node, float | int) and not abs(node) <= sys.float_info.max:
        raise ValueError("holds a number that is too large")
    return node


def _dev_eui(text: str) -> str:
    plain = re.sub(r"[-:]", "", text).lower()
    if not _EUI.fullmatch(plain):
        raise ValueError("a DevEUI has 16 hexadecimal digits")
    return plain


def _unit_reference(text: str) -> str:
    _, found, day = text.partition("@")
    if found:
        date.fromisoformat(day)
    return text


def _gateway_id(text: str) -> str:
    """An EUI in one way of writing it; a name of the network server's as it is."""
    plain = re.sub(r"[-:]", "", text).lower()
    return plain if _EUI.fullmatch(plain) else text


def _moment(value: object) -> object:
    """RFC 3339 with its offset. A "+" that a URL turned into a space is taken for what it was."""
    if not isinstance(value, str):
        return value
    text = re.sub(r" (?=\d\d:\d\d$)", "+", value) if "T" in value.upper() else value
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError("write a time as 2026-11-21T18:00:00Z or 2026-11-22T01:00:00+07:00")
    if match["offset"] is None:
        raise ValueError("the time lacks its offset; write 2026-11-21T18:00:00Z or …+07:00")
    return text.upper().replace(" ", "T", 1)


def _in_utc(value: datetime) -> datetime:
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        utc = _EARLIEST
    if utc <= _EARLIEST:
        raise ValueError("the time lies too far away")
    return utc


Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=500),
    AfterValidator(storable),
    AfterValidator(_composed),
]
"""A name or a remark; may be empty."""
Name = Annotated[Text, Field(min_length=1)]
LongText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=4000),
    AfterValidator(storable),
    AfterValidator(_composed),
]
JsonObject = Annotated[dict[str, Any], AfterValidator(lambda node: _plain_json(node))]
"""A definition of free form."""
Words = Annotated[
    Annotated[str, AfterValidator(storable), AfterValidator(_composed)] | None,
    Query(max_length=200, description="Found anywhere in the name, in either case."),
]
DevEui = Annotated[
    str, AfterValidator(_dev_eui), WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{16}$"})
]
StationCode = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
SlugId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
Code = StationCode
"""Of an owner or a facility, formed as a station's."""
UnitCode = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,31}$")]
UnitReference = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,31}(@[0-9]{4}-[0-9]{2}-[0-9]{2})?$"),
    AfterValidator(_unit_reference),
]
"""An administrative unit of today by its code, one of another day as ``24@2025-06-30``."""
GatewayId = Annotated[
    str, AfterValidator(_gateway_id), StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._:-]{0,127}$")
]
Latitude = Annotated[FiniteFloat, Field(ge=-90, le=90)]
Longitude = Annotated[FiniteFloat, Field(ge=-180, le=180)]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    AfterValidator(_in_utc),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
RowId = Annotated[int, Field(ge=1, lt=2**63)]
SmallId = Annotated[int, Field(ge=1, lt=2**31)]

From = Annotated[Moment | None, Query(alias="from", description="From this time on.")]
To = Annotated[Moment | None, Query(alias="to", description="Before this time.")]


def check_span(start: datetime | None, end: datetime | None) -> None:
    """Raises a 422 when the span ends before it starts."""
    if start is not None and end is not None and start > end:
        raise invalid("from", "lies after `to`")
