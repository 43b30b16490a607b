"""Finds codecs: those in Python, ours too, are entry points of the group ``quantrac.codecs``.

Vendors' JavaScript codecs come from the user's folder (`decoders.folder`) and from the store.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points

import structlog

from telemetry.errors import UsageError
from telemetry.plugin import Codec

GROUP = "quantrac.codecs"
_OWN_DISTRIBUTION = "quantrac"
_MOST_NAMED = 20

_log = structlog.get_logger(__name__)


class _NotACodec(Exception):
    """What an entry point resolved to cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Script:
    """A version of a vendor's JavaScript codec.

    `version` are the first 16 hex digits of its source's SHA-256. `source` is None where it is still in the
    store. `fresh`: each call gets a context of its own. `origin` says where it came from.
    """

    id: str
    version: str
    source: str | None = field(default=None, repr=False)
    fresh: bool = False
    origin: str = ""


@dataclass(frozen=True)
class Registry:
    """Python codecs by id, JavaScript ones by id with the newest first, and what could not be used, in words.

    No id is in both: a Python codec keeps its own.
    """

    codecs: dict[str, Codec]
    problems: tuple[str, ...]
    scripts: Mapping[str, Sequence[Script]] = field(default_factory=dict)

    def with_scripts(self, scripts: Iterable[Script], problems: Iterable[str] = ()) -> Registry:
        """Also with these, newest first; what is in the registry already counts as newer than all of them."""
        found = {id_: list(versions) for id_, versions in self.scripts.items()}
        refused: dict[str, str] = {}
        for script in scripts:
            if script.id in self.codecs:
                refused[script.id] = (
                    f"codec {script.id!r} ({script.origin}): a Python codec has this id; rename it"
                )
            elif all(script.version != known.version for known in found.setdefault(script.id, [])):
                found[script.id].append(script)
        return replace(self, scripts=found, problems=(*self.problems, *problems, *refused.values()))

    def find(self, id: str, version: str | None = None) -> Codec | Script:
        """The codec `id` in that version; without one, the newest.

        Raises:
            UsageError: there is none; the message names the nearest ids, or the versions there are.
        """
        codec = self.codecs.get(id)
        known: Sequence[Codec | Script] = [codec] if codec else self.scripts.get(id, ())
        for one in known:
            if version is None or one.version == version:
                return one
        if not known:
            raise self._unknown(id)
        versions = ", ".join(one.version for one in known[:5])
        raise UsageError(f"codec {id!r} has no version {version}; there are {versions}")

    def get(self, id: str) -> Codec:
        """The Python codec `id`.

        Raises:
            UsageError: there is none; the message names the nearest ids.
        """
        codec = self.codecs.get(id)
        if codec is None:
            raise self._unknown(id)
        return codec

    def ids(self) -> list[str]:
        """All ids, sorted."""
        return sorted({*self.codecs, *self.scripts})

    def _unknown(self, id: str) -> UsageError:
        if id in self.scripts:
            return UsageError(f"codec {id!r} is a vendor's JavaScript; one in Python is needed here")
        ids = self.ids()
        near = difflib.get_close_matches(id, ids, n=3)
        # A device repository brings a thousand.
        others = " and others" if len(ids) > _MOST_NAMED else ""
        known = f"known are {', '.join(ids[:_MOST_NAMED])}{others}" if ids else "none is installed"
        hint = f"did you mean {' or '.join(near)}?" if near else known
        return UsageError(f"unknown codec {id!r}: {hint}")


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
