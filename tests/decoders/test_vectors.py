"""The runner of vectors itself: what it lets pass, and how it says what is wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from decoders.vectors import run_vectors
from telemetry.errors import UsageError
from telemetry.plugin import DecodeError, Field, Fields


class _Echo:
    """Fields a and b are the first two bytes; encoding loses what `forgets` names."""

    id = "echo"
    version = "1"

    def __init__(self, forgets: str = "") -> None:
        self._forgets = forgets

    def decode(self, f_port: int, payload: bytes) -> Fields:
        if not payload:
            raise DecodeError("byte 0: a is missing")
        return {"a": payload[0], "b": {"c": payload[1] == 1, "d": [payload[1] / 2]}}

    def encode(self, fields: Mapping[str, Field]) -> tuple[int, bytes]:
        b = fields["b"]
        assert isinstance(b, dict)
        a = fields["a"] if self._forgets != "a" else 0
        assert isinstance(a, int)
        return 1, bytes((a, 1 if b["c"] else 4))


def _difference(folder: Path, codec: _Echo | None = None, **vector: Any) -> str:
    row = {"name": "v", "origin": "layout", "f_port": 1, "payload": "05 01"} | vector
    (folder / "vectors.json").write_text(json.dumps({"source": [], "vectors": [row]}))
    (result,) = run_vectors(codec or _Echo(), folder)
    assert result.passed == (not result.difference)
    return result.difference


GOOD = {"a": 5.0, "b": {"d": [0.5], "c": True}}


def test_passes(tmp_path: Path) -> None:
    assert _difference(tmp_path, fields=GOOD) == ""
    assert _difference(tmp_path, payload="", error="a is missing") == ""


@pytest.mark.parametrize(
    ("vector", "difference"),
    [
        ({"fields": GOOD | {"a": 6}}, "a: expected 6, got 5"),
        (
            {"fields": GOOD | {"b": {"c": 1, "d": [0.5]}}},
            "b: expected {c: 1, d: [0.5]}, got {c: True, d: [0.5]}",
        ),
        ({"fields": {"a": 5}}, "b: expected nothing, got {c: True, d: [0.5]}"),
        ({"fields": GOOD | {"e": None}}, "e: expected None, got nothing"),
        ({"fields": GOOD, "payload": ""}, "does not decode: byte 0: a is missing"),
        ({"fields": GOOD, "payload": "05"}, "IndexError: index out of range"),
        ({"fields": GOOD, "payload": "5"}, "payload: non-hexadecimal number"),
        ({"error": "short", "payload": ""}, "error: expected 'short', got 'byte 0: a is missing'"),
        ({"error": "short"}, "error: expected 'short', got {'a': 5, 'b': {'c': True, 'd': [0.5]}}"),
        ({}, "a vector needs either fields or an error"),
        ({"fields": GOOD, "error": "x"}, "a vector needs either fields or an error"),
    ],
)
def test_says_what_differs(tmp_path: Path, vector: dict[str, Any], difference: str) -> None:
    assert _difference(tmp_path, **vector).startswith(difference)


def test_encoding_must_give_the_fields_back(tmp_path: Path) -> None:
    lost = _difference(tmp_path, _Echo(forgets="a"), fields=GOOD)
    assert lost == "encoded and decoded again: a: expected 5, got 0"
    assert _difference(tmp_path, _Echo(forgets="a"), fields=GOOD, encodes=False) == ""


@pytest.mark.parametrize("text", [None, "{", '{"source": [], "vectors": [{"name": 1}]}', '{"vectors": []}'])
def test_a_bad_file_is_a_usage_error(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "vectors.json").write_text(text)
    with pytest.raises(UsageError, match=r"vectors\.json"):
        run_vectors(_Echo(), tmp_path)
