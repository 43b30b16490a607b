"""Adapters of other distributions: entry points of the group ``quantrac.adapters``."""

from __future__ import annotations

from collections.abc import Container, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

import structlog

from telemetry.errors import BadMessage
from telemetry.model import Event, RawMessage, Uplink

from .base import Adapter, Parsed

GROUP = "quantrac.adapters"
_log = structlog.get_logger(__name__)


class Plugins(NamedTuple):
    """The adapters that loaded, and one sentence for each entry point that did not."""

    adapters: tuple[Adapter, ...]
    problems: tuple[str, ...]


class _NotAnAdapter(Exception):
    """What an entry point resolved to cannot be used; the message says why."""


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
        parsed = adapter.parse(message)
        if isinstance(parsed, Uplink | Event):
            return parsed
        raise BadMessage("adapter_failed", f"adapter {entry.name} gave a {type(parsed).__name__}")

    return Adapter(entry.name, adapter.matches, parse)


def _precedence(entry: EntryPoint) -> tuple[str, str, str]:
    return _distribution(entry), entry.name, entry.value


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown distribution"
