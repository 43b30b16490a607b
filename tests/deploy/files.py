"""What the deployment files say, read for the tests that compare them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
import yaml

from quantrac.all_settings import ALL_SETTINGS
from quantrac.cli import app
from telemetry.settings import FILE_VARIABLE, PREFIX, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KNOWN_VARIABLES = {PREFIX + name.upper() for cls in ALL_SETTINGS for name in cls.model_fields}
SECRET = "c0ffee" * 8
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?::(?P<kind>[-?])(?P<more>[^}]*))?\}")


def read(path: str) -> str:
    return (DEPLOY / path).read_text(encoding="utf-8")


def env_file(path: str) -> dict[str, str]:
    """An environment file; a line that is neither comment nor NAME=value fails."""
    lines = [line for line in read(path).splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def compose_variables() -> dict[str, tuple[str, str]]:
    """What compose.yaml takes from .env: name → ("-", default) or ("?", message)."""
    text = re.sub(r"^\s*#.*$", "", read("compose.yaml"), flags=re.MULTILINE)
    return {m["name"]: (m["kind"] or "", m["more"] or "") for m in _VARIABLE.finditer(text)}


def compose(environ: dict[str, str]) -> Any:
    """compose.yaml as `docker compose` reads it: variables filled in, `$$` for one dollar sign.

    Raises:
        KeyError: a variable marked `:?` is unset or empty.
    """

    def value(match: re.Match[str]) -> str:
        given = environ.get(match["name"], "")
        if not given and match["kind"] == "?":
            raise KeyError(match["name"])
        return given or match["more"] or ""

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: fill(item) for key, item in node.items()}
        if isinstance(node, list):
            return [fill(item) for item in node]
        if isinstance(node, str):
            return _VARIABLE.sub(value, node).replace("$$", "$")
        return node

    return fill(yaml.safe_load(read("compose.yaml")))


def filled_in() -> dict[str, str]:
    """.env as an operator leaves it: the example with its secrets filled in."""
    needed = {name for name, (kind, _) in compose_variables().items() if kind == "?"}
    return {name: SECRET if name in needed else value for name, value in env_file(".env.example").items()}


def check_settings(environ: dict[str, str]) -> None:
    """Every QUANTRAC_ variable of `environ` is a setting and its value is a good one."""
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    assert set(ours) <= KNOWN_VARIABLES | {FILE_VARIABLE}
    for cls in ALL_SETTINGS:
        load(cls, environ=ours)


def commands() -> set[str]:
    """The program's commands."""
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def acl() -> dict[str, list[tuple[str, str]]]:
    """The broker's users and what each may do: user → [(read or write, topic filter)]."""
    rights: dict[str, list[tuple[str, str]]] = {}
    for line in _directives("mosquitto/acl"):
        word, _, rest = line.partition(" ")
        if word == "user":
            user = rights.setdefault(rest, [])
        else:
            assert word == "topic"
            access, _, topic = rest.partition(" ")
            user.append((access, topic))
    return rights


def mosquitto_conf() -> dict[str, str]:
    """The broker's settings; `log_type`, which may come again, keeps its last value."""
    return dict(line.split(" ", 1) for line in _directives("mosquitto/mosquitto.conf"))


def _directives(path: str) -> Iterator[str]:
    for line in read(path).splitlines():
        if line and not line.startswith("#"):
            yield line
