"""Adapters of other distributions: entry points of the group ``quantrac.adapters``."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from datetime import datetime
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

import msgspec
import structlog

from telemetry.errors import BadMessage
from telemetry.model import Event, RawMessage, Uplink

from ..text import storable
from .base import Adapter, Parsed

GROUP = "quantrac.adapters"
_EUI = re.compile(r"[0-9a-f]{16}")
_log = structlog.get_logger(__name__)


class Plugins(NamedTuple):
    """The adapters that loaded, and one sentence for each entry point that did not."""

    adapters: tuple[Adapter, ...]
    problems: tuple[str, ...]


class _NotAnAdapter(Exception):
    """What an entry point resolved to cannot be used; the message says why."""


class _Unusable(Exception):
    """What an adapter gave for a message cannot be used; the message says what it is."""


def load_adapters(taken: Iterable[str], entries: Iterable[EntryPoint] | None = None) -> Plugins:
    """Load every entry point of the group, or `entries`, but those with a `taken` name; one that fails costs
    no other.
    """
    found: dict[str, Adapter] = {}
    problems: list[str] = []
    for entry in sorted(entry_points(group=GROUP) if entries is None else entries, key=_precedence):
        try:
            found[entry.name] = _load(entry, {*taken, *found})
        # A plug-in may fail in any way, or call sys.exit() while it is imported.
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, _NotAnAdapter) else f"{type(error).__name__}: {error}"
            problem = f"adapter {entry.name!r} ({entry.value} of {_distribution(entry)}): {reason}"
            _log.warning("adapter_not_loaded", adapter=entry.name, problem=problem)
            problems.append(problem)
    return Plugins(tuple(found.values()), tuple(problems))


def _load(entry: EntryPoint, taken: Container[str]) -> Adapter:
    if entry.name in taken:
        raise _NotAnAdapter("another adapter has this name already; give it one of its own")
    adapter = entry.load()
    if not all(callable(getattr(adapter, name, None)) for name in ("matches", "parse")):
        raise _NotAnAdapter("is no adapter: it needs matches(topic, payload) and parse(message)")
    name = getattr(adapter, "name", None)
    if name != entry.name:
        raise _NotAnAdapter(f"its name is {name!r}; the entry point and the adapter must have the same name")

    def parse(message: RawMessage) -> Parsed:
        try:
            return _checked(adapter.parse(message))
        except BadMessage as error:
            told: tuple[object, object] = error.reason, error.field
            if isinstance(told[0], str) and isinstance(told[1], str | None):
                raise
            problem = "raised a BadMessage whose reason or field is no text"
        except _Unusable as error:
            problem = f"gave {error}"
        raise BadMessage("adapter_failed", f"adapter {entry.name} {problem}")

    return Adapter(entry.name, adapter.matches, parse)


def _checked(parsed: object) -> Parsed:
    """What an adapter gave, when it is what its type says.

    The built-in ones need no such look: they are held to it by their types and tests.

    Raises:
        _Unusable: it is not; what it is instead.
    """
    if not isinstance(parsed, Uplink | Event):
        raise _Unusable(f"a {type(parsed).__name__}")
    kind = type(parsed).__name__
    try:
        typed = msgspec.convert(msgspec.structs.asdict(parsed), type(parsed), builtin_types=(bytes, datetime))
    except msgspec.ValidationError as error:
        raise _Unusable(f"an {kind} whose fields are wrong: {error}") from None
    if len(typed.dedup_key) != 16:
        raise _Unusable(f"an {kind} whose dedup_key has {len(typed.dedup_key)} bytes instead of 16")
    if typed.dev_eui is not None and not _EUI.fullmatch(typed.dev_eui):
        raise _Unusable(f"an {kind} whose dev_eui is not 16 digits of lower-case hex: {typed.dev_eui[:64]!r}")
    if storable(typed.network) != typed.network:
        raise _Unusable(f"an {kind} whose network cannot be stored: {typed.network[:64]!r}")
    return typed


def _precedence(entry: EntryPoint) -> tuple[str, str, str]:
    return _distribution(entry), entry.name, entry.value


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown distribution"
