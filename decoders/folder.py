"""Vendors' JavaScript codecs in a folder of the user's: ``acme-tank.js``, or ``acme-tank/codec.js``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from telemetry.codec_version import codec_version
from telemetry.errors import UsageError

from .javascript.workers import Call, JsWorkers
from .registry import Script

_ID = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_UNUSABLE = ("source", "missing")


def read_folder(folder: Path, workers: JsWorkers) -> tuple[list[Script], list[str]]:
    """The codecs of a folder, and one sentence for each file that is none.

    `workers` try each: its source must be JavaScript, with a function that decodes uplinks.
    """
    if not folder.is_dir():
        return [], [f"QUANTRAC_CODECS_DIR: there is no folder {folder}"]
    scripts: dict[str, Script] = {}
    problems: list[str] = []
    for id_, file in _files(folder):
        try:
            script = _read(id_, file, workers)
        except (UsageError, OSError, UnicodeDecodeError) as error:
            problems.append(f"{file}: {error}")
            continue
        if id_ in scripts:
            problems.append(f"{file}: codec {id_!r} is in {scripts[id_].origin} already")
        else:
            scripts[id_] = script
    return list(scripts.values()), problems


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if path.suffix == ".js" and path.is_file():
            yield path.stem, path
        elif (path / "codec.js").is_file():
            yield path.name, path / "codec.js"


def _read(id_: str, file: Path, workers: JsWorkers) -> Script:
    if not _ID.fullmatch(id_):
        raise UsageError(f"the id {id_!r} is not made of a-z, 0-9, '.', '_' and '-'; rename the file")
    source = file.read_text(encoding="utf-8")
    key = workers.add(source)
    outcome = workers.run([Call(key, "decode_uplink", 1)])[0]
    if outcome.failure in _UNUSABLE:
        raise UsageError("; ".join(outcome.errors))
    return Script(id_, codec_version(source), source, origin=str(file))
