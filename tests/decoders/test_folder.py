"""Vendors' codecs in a folder of the user's, and their place among the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from decoders.folder import read_folder
from decoders.javascript.workers import JsWorkers
from decoders.registry import Registry, Script, load_codecs
from telemetry.errors import UsageError

GOOD = "function decodeUplink(input) { return {data: {n: input.bytes.length}}; }"
THROWS = "function Decode(port, bytes) { throw new Error('too short'); }"


@pytest.fixture
def workers() -> Iterator[JsWorkers]:
    with JsWorkers() as workers:
        yield workers


def test_a_bad_file_costs_no_other(tmp_path: Path, workers: JsWorkers) -> None:
    files = {
        "acme-tank.js": GOOD,
        "acme.v3/codec.js": THROWS,
        "acme-tank/codec.js": GOOD,
        "broken.js": "function (",
        "idle.js": "var x = 1;",
        "Acme Tide.js": GOOD,
        "notes.txt": "not a codec",
        "empty/readme.md": "neither",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.js").write_bytes(b"// \xe9")
    (tmp_path / "large.js").write_text(f"//{'x' * 2**20}")
    scripts, problems = read_folder(tmp_path, workers)
    assert {script.id for script in scripts} == {"acme-tank", "acme.v3"}
    assert all(script.source in (GOOD, THROWS) and len(script.version) == 16 for script in scripts)
    told = {problem.partition(": ")[0]: problem for problem in problems}
    bad = {"broken.js", "idle.js", "Acme Tide.js", "latin.js", "large.js", "acme-tank.js"}
    assert set(told) == {str(tmp_path / name) for name in bad}
    assert "is in" in told[str(tmp_path / "acme-tank.js")]
    assert "the id 'Acme Tide' is not made of" in told[str(tmp_path / "Acme Tide.js")]
    assert "bytes; 1048576 are allowed" in told[str(tmp_path / "large.js")]
    assert "decodeUplink" in told[str(tmp_path / "idle.js")]


def test_a_folder_that_is_not_there_is_a_problem(tmp_path: Path, workers: JsWorkers) -> None:
    scripts, (problem,) = read_folder(tmp_path / "away", workers)
    assert scripts == []
    assert problem == f"QUANTRAC_CODECS_DIR: there is no folder {tmp_path / 'away'}"


def test_the_folder_counts_as_newer_than_the_store() -> None:
    registry = Registry({}, ()).with_scripts([Script("a", "2", "x")])
    registry = registry.with_scripts([Script("a", "3"), Script("a", "2"), Script("b", "1")])
    newest = registry.find("a")
    assert (newest.version, registry.find("a", "3").version) == ("2", "3")
    assert isinstance(registry.find("a", "2"), Script)
    assert registry.ids() == ["a", "b"]
    with pytest.raises(UsageError, match="codec 'a' has no version 4; there are 2, 3"):
        registry.find("a", "4")
    with pytest.raises(UsageError, match="unknown codec 'c'"):
        registry.find("c")
    with pytest.raises(UsageError, match="codec 'a' is a vendor's JavaScript"):
        registry.get("a")


def test_a_python_codec_keeps_its_id() -> None:
    registry = load_codecs()
    (id_, *_) = registry.codecs
    more = registry.with_scripts([Script(id_, "1", "x", origin="folder")])
    assert more.find(id_) is registry.codecs[id_]
    assert more.problems[-1] == f"codec {id_!r} (folder): a Python codec has this id; rename it"
