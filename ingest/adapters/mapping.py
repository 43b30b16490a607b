"""The file that declares other network servers' messages (QUANTRAC_ADAPTERS_FILE): read, and checked whole.

Each ``[[server]]`` maps the JSON messages of some topics by JSONPath (RFC 9535). docs/how-to/other-servers.md
shows every key.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from jsonpath import JSONPath, JSONPathEnvironment, JSONPathError
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from telemetry.errors import SettingsError

SETTING = "QUANTRAC_ADAPTERS_FILE"
_ENVIRONMENT = JSONPathEnvironment(strict=True)


def _compiled(text: object) -> JSONPath:
    if not isinstance(text, str) or not text.startswith("$"):
        raise ValueError("is no JSONPath; write one such as $.device.eui")
    try:
        path = _ENVIRONMENT.compile(text)
    except JSONPathError as error:  # its str() draws the place, over several lines
        raise ValueError(f"is no JSONPath ({error.args[0]}); write one such as $.device.eui") from None
    if not isinstance(path, JSONPath):
        raise ValueError("joins several JSONPaths; write one")  # noqa: TRY004
    return path


def _topic_filter(text: str) -> str:
    levels = text.split("/")
    sound = all(level in ("+", "#") or not set(level) & set("+#") for level in levels)
    if not text or not sound or "#" in levels[:-1]:
        raise ValueError("is no MQTT topic filter; write one such as lora/+/uplink or lora/#")
    return text


JsonPath = Annotated[JSONPath, BeforeValidator(_compiled)]
TopicFilter = Annotated[str, AfterValidator(_topic_filter)]
TimeFormat = Literal["rfc3339", "seconds", "milliseconds"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class GatewayMapping(_Section):
    """Where each reception is (`each`, a list), and what it tells, relative to it."""

    each: JsonPath
    id: JsonPath
    rssi: JsonPath | None = None
    snr: JsonPath | None = None
    latitude: JsonPath | None = None
    longitude: JsonPath | None = None


class ServerMapping(_Section):
    """One server's uplinks. Paths that are None are not told."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,39}$")
    topics: tuple[TopicFilter, ...] = Field(min_length=1)
    dev_eui: JsonPath
    payload: JsonPath
    payload_format: Literal["base64", "hex"] = "base64"
    identity: tuple[JsonPath, ...] = ()
    f_cnt: JsonPath | None = None
    f_port: JsonPath | None = None
    dev_addr: JsonPath | None = None
    time: JsonPath | None = None
    ns_time: JsonPath | None = None
    time_format: TimeFormat = "rfc3339"
    frequency: JsonPath | None = None
    frequency_unit: Literal["Hz", "MHz"] = "Hz"
    spreading_factor: JsonPath | None = None
    device_name: JsonPath | None = None
    application: JsonPath | None = None
    gateways: GatewayMapping | None = None


class _File(_Section):
    server: tuple[ServerMapping, ...] = Field(min_length=1)


def read_mappings(path: Path) -> tuple[ServerMapping, ...]:
    """The servers that the file declares.

    Raises:
        SettingsError: it cannot be read, or a value of it means nothing; names file, server and key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(SETTING, f"{path}: {error.strerror}", "Name a file that can be read.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(SETTING, f"{path}: {error}", "Mend the file; it must be TOML in UTF-8.") from None
    try:
        servers = _File.model_validate(content).server
    except ValidationError as error:
        raise _wrong(path, content, error) from None
    names = [server.name for server in servers]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(SETTING, f"{path}: two servers are named {name!r}", "Give each its own name.")
    return servers


def _wrong(path: Path, content: dict[str, Any], error: ValidationError) -> SettingsError:
    first = error.errors()[0]
    where = list(first["loc"])
    place = ""
    if len(where) > 1 and where[0] == "server" and isinstance(where[1], int):
        entry = content["server"][where[1]]
        name = entry.get("name") if isinstance(entry, dict) else None
        place = f"server {where[1] + 1}{f' ({name})' if name else ''}, "
        where = where[2:]
    key = ".".join(str(part) for part in where)
    known = _known_keys(where)
    cure = {
        "missing": f"Add {key}.",
        "extra_forbidden": f"Remove it, or write one of {', '.join(known)}.",
    }.get(first["type"], "Correct the value; docs/how-to/other-servers.md shows every key.")
    shown = "" if first["type"] == "missing" else f" {first['input']!r}"[:80]
    problem = re.sub(r"^Value error, ", "", first["msg"])
    return SettingsError(SETTING, f"{path}: {place}{key}{shown}: {problem}", cure)


def _known_keys(where: list[int | str]) -> list[str]:
    section = GatewayMapping if where[:1] == ["gateways"] else ServerMapping if len(where) == 1 else _File
    return sorted(section.model_fields)
