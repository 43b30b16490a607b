"""Finds codecs: every one of them, ours too, is an entry point of the group ``quantrac.codecs``."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

import structlog

from telemetry.errors import UsageError
from telemetry.plugin import Codec

GROUP = "quantrac.codecs"
_OWN_DISTRIBUTION = "quantrac"

_log = structlog.get_logger(__name__)


class _NotACodec(Exception):
    """What an entry point resolved to cannot be used; the message says why."""


@dataclass(frozen=True)
class Registry:
    """The codecs that loaded, by id, and one sentence for each entry point that did not."""

    codecs: dict[str, Codec]
    problems: tuple[str, ...]

    def get(self, id: str) -> Codec:
        """The codec `id`.

        Raises:
            UsageError: there is none; the message names the nearest ids.
        """
        try:
            return self.codecs[id]
        except KeyError:
            near = difflib.get_close_matches(id, self.codecs, n=3)
            known = f"known are {', '.join(self.ids())}" if self.codecs else "none is installed"
            hint = f"did you mean {' or '.join(near)}?" if near else known
            raise UsageError(f"unknown codec {id!r}: {hint}") from None

    def ids(self) -> list[str]:
        """All ids, sorted."""
        return sorted(self.codecs)


def load_codecs(entries: Iterable[EntryPoint] | None = None) -> Registry:
    """Load every entry point of the group, or `entries`; one that fails costs no other.

    Of two codecs with one id the built-in stays, else that of the distribution that sorts first.
    """
    codecs: dict[str, Codec] = {}
    problems: list[str] = []
    for entry in sorted(entry_points(group=GROUP) if entries is None else entries, key=_precedence):
        try:
            codecs[entry.name] = _load(entry, taken=codecs)
        # A plug-in may fail in any way, or call sys.exit() while it is imported.
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, _NotACodec) else f"{type(error).__name__}: {error}"
            problem = f"codec {entry.name!r} ({entry.value} of {_distribution(entry)}): {reason}"
            _log.warning("codec_not_loaded", codec=entry.name, problem=problem)
            problems.append(problem)
    return Registry(codecs, tuple(problems))


def _load(entry: EntryPoint, taken: Container[str]) -> Codec:
    if entry.name in taken:
        raise _NotACodec("another codec has this id already; give it one of its own")
    codec = entry.load()
    if isinstance(codec, type):
        raise _NotACodec(f"is the class {codec.__name__}; export an instance of it")
    if not isinstance(codec, Codec):
        missing = [name for name in ("id", "version", "decode", "encode") if not hasattr(codec, name)]
        raise _NotACodec(f"is no codec (telemetry.plugin.Codec): it has no {', '.join(missing)}")
    for name in ("id", "version"):
        if not isinstance(value := getattr(codec, name), str) or not value:
            raise _NotACodec(f"its {name} is {value!r}; a non-empty string is needed")
    if codec.id != entry.name:
        raise _NotACodec(f"its id is {codec.id!r}; the entry point and the codec must have the same name")
    return codec


def _precedence(entry: EntryPoint) -> tuple[bool, str, str, str]:
    distribution = _distribution(entry)
    return distribution != _OWN_DISTRIBUTION, distribution, entry.name, entry.value


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown distribution"
