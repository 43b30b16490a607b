"""`codecs add`: one vendor's codec, or a checkout of a device repository, checked and written."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from decoders.device_types import DeviceType, builtin_device_types, read_device_types
from decoders.devicerepo.catalogue import read_catalogue
from decoders.devicerepo.model import Checkout, Origin, RepoCodec
from decoders.devicerepo.run import run_checkout
from decoders.devicerepo.single import DEVICE_TYPE_FILE, faults, open_single
from decoders.devicerepo.ttn import TtnCheckout
from decoders.javascript.calls import Call
from decoders.javascript.workers import JsWorkers
from quantrac.codec_import import Plan, codec_ids, lock_registry, make_plan, read_known, write_plan
from quantrac.progress import progress_bar
from quantrac.texts import actor
from telemetry.catalogue import CATALOGUE
from telemetry.errors import UsageError
from telemetry.store.codecs import add_codec, codec_version, list_codecs
from telemetry.store.master import save_device_type
from telemetry.store.pool import connect

_ID = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_NAMES: dict[Origin, str] = {
    "ttn": "The Things Network's device repository",
    "chirpstack": "ChirpStack's device profiles",
}
_BATCH = 100  # codecs looked at together


@dataclass(slots=True)
class Report:
    """What became of an import. `refused`, `kept` and `outdated` by id; `not_read` are faults of files.

    `outdated` codecs are there already, but not as the newest version, which is what runs.
    """

    codecs: dict[str, int] = field(default_factory=dict)
    device_types: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    outdated: list[str] = field(default_factory=list)
    not_read: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self, most: int) -> Iterator[str]:
        """For a person: at most so many of one kind."""
        yield from _section("refused", _told(self.refused), len(self.refused))
        yield from _section("left as they are", _by_reason(self.kept), most)
        yield from _section("there already, but a later version runs", self.outdated, most)
        yield from _section("not read", self.not_read, most)
        yield f"codecs: {_counts(self.codecs)}"
        yield f"device types: {_counts(self.device_types)}"


def add_checkout(url: str, checkout: Checkout, *, force: bool) -> Report:
    """All of a repository. A codec that is refused costs its device types that codec and no more."""
    origin: Origin = "ttn" if isinstance(checkout, TtnCheckout) else "chirpstack"
    catalogue = read_catalogue(checkout)
    with JsWorkers() as workers:
        refused = _unusable(catalogue.codecs, workers)
        with progress_bar("running the examples") as progress:
            tested = run_checkout(checkout, workers, progress)
    if not force:
        for miss in tested.failed:
            refused.setdefault(miss.vector.codec, []).append(str(miss))
    with connect(url, application="quantrac codecs", autocommit=True) as connection:
        with connection.cursor() as cursor:
            # Two imports at once would tell of each other's rows as their own.
            cursor.execute("SELECT pg_advisory_lock(hashtext('quantrac codecs add'))")
            plan = make_plan(catalogue, origin, refused, *read_known(cursor))
        with progress_bar("writing") as progress:
            write_plan(connection, plan, origin=_NAMES[origin], actor=actor(), progress=progress)
    ids = codec_ids(catalogue, origin)
    report = _report(plan)
    report.refused = {ids.get(content, content): "\n".join(reasons) for content, reasons in refused.items()}
    report.codecs["refused"] = len(refused)
    report.not_read = list(dict.fromkeys(map(str, [*catalogue.problems, *tested.skipped])))
    return report


def add_single(
    url: str, folder: Path, taken: Collection[str], *, id_: str | None, fresh: bool, force: bool
) -> Report:
    """One vendor's codec with its device types, all or nothing.

    Raises:
        UsageError: the folder is not made of what is needed, or the id is `taken` on this machine.
    """
    single = open_single(folder)
    types = _device_types(folder)
    codec = id_ or _named_by(types) or re.sub(r"[^a-z0-9.-]+", "-", folder.resolve().name.lower()).strip("-.")
    _check_names(codec, types, taken)
    if "\0" in single.codec.text:
        raise UsageError(f"{folder / single.codec.path}: holds U+0000, which the store has no place for")
    with JsWorkers() as workers:
        reasons, _ = faults(single, workers, fresh=fresh)
    if reasons and not force:
        return Report(refused={codec: "\n".join(reasons)}, codecs={"refused": 1})
    version = codec_version(single.codec.text)
    with connect(url, application="quantrac codecs") as connection, connection.cursor() as cursor:
        lock_registry(cursor)
        known = [entry.version for entry in list_codecs(cursor) if entry.id == codec]
        added = add_codec(
            cursor, codec, single.codec.text, fresh=fresh, origin=f"folder {folder.name}", added_by=actor()
        )
        for type_ in types:
            save_device_type(cursor, type_.to_dict())
    return Report(
        codecs={
            "added": int(added and not known),
            "new versions": int(added and bool(known)),
            "there already": int(not added),
        },
        device_types={"written": len(types)},
        outdated=[codec] if not added and known[0] != version else [],
        not_read=reasons,
    )


def _unusable(codecs: dict[str, RepoCodec], workers: JsWorkers) -> dict[str, list[str]]:
    """Codecs that no example need be asked about: too large to run, not to be stored, no JavaScript."""
    refused: dict[str, list[str]] = {}
    calls: list[tuple[str, Call]] = []
    for content, codec in codecs.items():
        try:
            calls.append((content, Call(workers.add(codec.text), "decode_uplink", 1)))
        except UsageError as error:
            refused[content] = [f"{codec.path}: {error}"]
        if "\0" in codec.text:
            refused[content] = [f"{codec.path}: holds U+0000, which the store has no place for"]
    for start in range(0, len(calls), _BATCH):
        part = calls[start : start + _BATCH]
        for (content, _), outcome in zip(part, workers.run([call for _, call in part]), strict=True):
            if outcome.failure == "source":
                refused[content] = [f"{codecs[content].path}: {'; '.join(outcome.errors)}"]
    return refused


def _report(plan: Plan) -> Report:
    new_types = sum(type_.was is None for type_ in plan.types)
    return Report(
        codecs={
            "added": len(plan.codecs) - plan.new_versions,
            "new versions": plan.new_versions,
            "there already": plan.same_codecs,
        },
        device_types={
            "added": new_types,
            "changed": len(plan.types) - new_types,
            "there already": plan.same_types,
            "left as they are": len(plan.kept),
        },
        kept=dict(plan.kept),
        outdated=plan.outdated,
    )


def _device_types(folder: Path) -> list[DeviceType]:
    file = folder / DEVICE_TYPE_FILE
    if not file.is_file():
        return []
    try:
        return read_device_types(file.read_text(encoding="utf-8"), CATALOGUE)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}") from None
    except UsageError as error:
        raise UsageError("\n".join(f"{file}: {line}" for line in str(error).splitlines())) from None


def _named_by(types: list[DeviceType]) -> str | None:
    named = {type_.codec for type_ in types}
    return named.pop() if len(named) == 1 else None


def _check_names(codec: str, types: list[DeviceType], taken: Collection[str]) -> None:
    if not _ID.fullmatch(codec):
        raise UsageError(
            f"{codec!r} cannot be a codec's id: up to 64 of a-z, 0-9, '.', '_' and '-'; give --id"
        )
    if codec in taken:
        raise UsageError(f"a codec of this machine has the id {codec} already and goes first; give --id")
    for type_ in types:
        if codec not in {type_.codec, *(choice.codec for choice in type_.codecs)}:
            raise UsageError(f"{DEVICE_TYPE_FILE}: {type_.id} names the codec {type_.codec}, not {codec}")
        if type_.id in builtin_device_types():
            raise UsageError(
                f"{DEVICE_TYPE_FILE}: the device type {type_.id} comes with the program; rename it"
            )


def _section(title: str, rows: list[str], most: int) -> Iterator[str]:
    if rows:
        yield f"{title}:"
    for row in rows[:most]:
        yield "  " + row.replace("\n", "\n    ")
    if len(rows) > most:
        yield f"  … and {len(rows) - most} more (--json tells all)"


def _told(reasons: dict[str, str]) -> list[str]:
    return [f"{id_}: {reason}" for id_, reason in reasons.items()]


def _by_reason(reasons: dict[str, str]) -> list[str]:
    ids: dict[str, list[str]] = {}
    for id_, reason in reasons.items():
        ids.setdefault(reason, []).append(id_)
    return [f"{reason}: {', '.join(same)}" for reason, same in ids.items()]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
