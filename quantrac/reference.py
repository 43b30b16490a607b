"""Pages of docs/reference and the default settings file, made from the code: python -m quantrac.reference.

Run it in the root of the repository after changing a setting, a command, a metric or a device type;
tests/docs compares the files with what the code gives.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from alerting.delivery.settings import DeliverySettings
from alerting.settings import AlertSettings
from api.settings import ApiSettings
from decoders.device_types import builtin_device_types
from ingest.adapters import AdapterSettings
from ingest.settings import IngestSettings
from ingest.sources.tts_settings import TtsStorageSettings
from quantrac import cli
from quantrac.context import EmbeddedSettings
from telemetry.catalogue import CATALOGUE
from telemetry.settings import FILE_VARIABLE, PREFIX, CommonSettings, Settings, StoreSettings

_MADE = "<!-- Made by `python -m quantrac.reference`; change the code, not this page. -->\n"
SECTIONS: Mapping[str, type[Settings]] = {
    "Every command": CommonSettings,
    "Database": StoreSettings,
    "Broker and ingest": IngestSettings,
    "Other network servers": AdapterSettings,
    "Filling gaps from The Things Stack": TtsStorageSettings,
    "Alerting": AlertSettings,
    "API and page": ApiSettings,
    "Webhooks": DeliverySettings,
    "What `quantrac up` brings along": EmbeddedSettings,
}
COMPUTED = {
    "data_dir": ("$XDG_DATA_HOME/quantrac, else ~/.local/share/quantrac", "/var/lib/quantrac"),
    "mqtt_client_id": ("quantrac-ingest-<host name>", "quantrac-ingest-1"),
}
"""Defaults that differ from machine to machine: how they are told, and an example of a value."""


def settings_page() -> str:
    """docs/reference/settings.md."""
    lines = [
        "# Settings\n",
        _MADE,
        "A setting is an environment variable. It may also stand in a file, under the same name without "
        f"`{PREFIX}` and in small letters. The environment wins over the file; an option of the command line "
        "wins over both. An empty variable counts as unset. Lists are separated by commas in the environment "
        "and are TOML lists in the file.\n",
        f"The file is `quantrac.toml` in the working directory, or the one that `{FILE_VARIABLE}` names. "
        "[quantrac.toml.example](../../quantrac.toml.example) holds every setting with its default.\n",
        "A wrong value ends the command with exit status 2 and one line that names the setting and the cure. "
        "`quantrac doctor` tells of variables that no part of Quantrac knows.\n",
    ]
    for title, cls in SECTIONS.items():
        lines += [f"## {title}\n", "| variable | default | meaning |", "|---|---|---|"]
        for name, schema in _properties(cls):
            meaning = " ".join(filter(None, (schema["description"], _limits(schema))))
            lines.append(f"| `{PREFIX}{name.upper()}` | {_default(name, schema)} | {_cell(meaning)} |")
        lines.append("")
    return "\n".join(lines)


def settings_file() -> str:
    """quantrac.toml.example: everything commented out, at its default."""
    lines = [
        "# Settings of Quantrac, each at its default. Copy to quantrac.toml and uncomment what you change.",
        f"# An environment variable {PREFIX}… wins over this file. Made by `python -m quantrac.reference`.",
    ]
    for title, cls in SECTIONS.items():
        lines += ["", f"## {title}"]
        for name, schema in _properties(cls):
            told, example = COMPUTED.get(name, ("", schema.get("default")))
            note = [f"# Default: {told}. For example:"] if told else []
            lines += ["", f"# {schema['description']}", *note, f"# {name} = {_toml(example)}"]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """docs/reference/commands.md."""
    lines = [
        "# Commands\n",
        _MADE,
        "Exit status: 0 done, 1 failed, 2 wrong usage or settings. `quantrac COMMAND --help` says the "
        "same as this page.\n",
    ]
    for path, command in command_tree():
        if hasattr(command, "commands"):
            continue
        arguments = [p for p in command.params if p.param_type_name == "argument" and not p.hidden]
        options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
        words = ["quantrac", path, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])]
        usage = " ".join(words)
        lines += [f"## {path}\n", f"```\n{usage}\n```\n", f"{(command.help or '').strip()}\n"]
        rows = [(_argument(p), p.help or "") for p in arguments if p.help]
        rows += [(_option(p), _option_help(p)) for p in options]
        if rows:
            lines += ["| | |", "|---|---|", *(f"| `{_cell(a)}` | {_cell(b)} |" for a, b in rows), ""]
    return "\n".join(lines)


def data_page() -> str:
    """docs/reference/data.md."""
    lines = [
        "# Metrics and device types\n",
        _MADE,
        "## Metrics\n",
        "A reading belongs to one metric and is stored in that metric's unit "
        "([UCUM](https://ucum.org/ucum)). A value outside the range is stored too, with the quality flag 4 "
        "(fail). `counter` grows until it wraps or is reset, `increment` is an amount since the reading "
        "before. CF is the [standard "
        "name](https://cfconventions.org/standard-names.html) where one exists. The list is data: "
        "`telemetry/catalogue.toml`.\n",
        "| metric | English | Tiếng Việt | unit | range | decimals | kind | CF |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, metric in CATALOGUE.items():
        low, high = metric.range
        cf = f"`{metric.cf}`" if metric.cf else ""
        lines.append(
            f"| `{key}` | {metric.en} | {metric.vi} | `{metric.unit}` | {low:.12g} … {high:.12g} "
            f"| {metric.precision} | {metric.kind} | {cf} |"
        )
    lines += [
        "\n## Built-in device types\n",
        "| device type | vendor, model | codec | usual interval | metrics (channel) |",
        "|---|---|---|---|---|",
    ]
    for type_ in builtin_device_types().values():
        channels: dict[str, dict[str, None]] = {}
        for entry in type_.mapping:
            channels.setdefault(entry.metric, {})[str(entry.channel)] = None
        metrics = ", ".join(f"`{metric}` ({', '.join(found)})" for metric, found in channels.items())
        folder = type_.codec.replace("-", "_")
        lines.append(
            f"| `{type_.id}` | {type_.vendor} {type_.model} "
            f"| [`{type_.codec}`](../../decoders/builtin/{folder}/README.md) "
            f"| {type_.expected_interval} s | {metrics} |"
        )
    return "\n".join(lines) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "docs/reference/settings.md": settings_page,
    "docs/reference/commands.md": commands_page,
    "docs/reference/data.md": data_page,
    "quantrac.toml.example": settings_file,
}
"""Path in the repository → what makes the file."""


def command_tree() -> Iterator[tuple[str, Any]]:
    """Every command and group of the program: (its words after ``quantrac``, the command)."""

    def below(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            path = f"{prefix} {name}".strip()
            yield path, command
            if hasattr(command, "commands"):
                yield from below(path, command)

    return below("", typer.main.get_command(cli.app))


def _properties(cls: type[Settings]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from cls.model_json_schema()["properties"].items()


def _limits(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"From {low:g} to {high:g}."
    if low is not None:
        return f"At least {low:g}."
    above = f"Above {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else ""
    most = f"at most {high:g}" if high is not None else ""
    found = ", ".join(filter(None, (above, most)))
    return f"{found}." if found else ""


def _default(name: str, schema: Mapping[str, Any]) -> str:
    if name in COMPUTED:
        return f"`{COMPUTED[name][0]}`"
    value = schema["default"]
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value) or "none"
    return "empty" if value == "" else f"`{value}`"


def _toml(value: object) -> str:
    """JSON writes booleans, numbers, plain texts and lists of them as TOML does."""
    return json.dumps(value, ensure_ascii=False)


def _argument(parameter: Any) -> str:
    name = _value(parameter) + ("…" if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    words = ", ".join(parameter.opts)
    return words if parameter.is_flag else f"{words} {_value(parameter)}"


def _value(parameter: Any) -> str:
    """What stands for the value: the choices where there are any."""
    annotation = parameter.type_descriptor.annotation
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return str(parameter.metavar or parameter.name.rstrip("_").upper())


def _option_help(parameter: Any) -> str:
    needed = " Required." if parameter.required else ""
    default = parameter.default
    shown = "" if default is None or default is False or default == "" else f" Default: `{default}`."
    return f"{parameter.help or ''}{shown}{needed}".strip()


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def main() -> None:
    """Write every page into the repository that is the working directory."""
    for path, make in PAGES.items():
        Path(path).write_text(make(), encoding="utf-8")
        typer.echo(path)


if __name__ == "__main__":
    main()
