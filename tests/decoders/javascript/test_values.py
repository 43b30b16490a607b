"""What becomes of each JavaScript value, and of results that are none."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Run


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("NaN", None),
        ("Infinity", None),
        ("-Infinity", None),
        ("[undefined, NaN, 1]", [None, None, 1]),
        ("null", None),
        ("'7.5'", "7.5"),
        ("true", True),
        ("1.5e300", 1.5e300),
        ("2 ** 53", 2**53),
        ("1e20", 10**20),
        ("10n", 10),
        ("-(2n ** 53n - 1n)", -(2**53 - 1)),
        ("2n ** 70n", str(2**70)),
        ("new Uint8Array([1, 255])", [1, 255]),
        ("new Float32Array([0.5])", [0.5]),
        ("new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("new Date(NaN)", None),
        ("new Map([[1, 2]])", {}),
        ("[[1, [2]], {a: {}}]", [[1, [2]], {"a": {}}]),
        ("'Trạm quan trắc Đà Nẵng 🌧'", "Trạm quan trắc Đà Nẵng 🌧"),
        ("'\\u0000'", "\x00"),
        ("'\\ud83d!'", "\ufffd!"),
        ("'\\ude00\\ud83d\\ude00'", "\ufffd😀"),
        (r"'\\ud83d'", r"\ud83d"),
    ],
)
def test_value(run: Run, expression: str, value: Any) -> None:
    outcome = run(f"function decodeUplink() {{ return {{ data: {{ v: {expression} }} }}; }}")
    assert outcome.errors == []
    assert outcome.data == {"v": value}
    assert type(outcome.data["v"]) is type(value)


@pytest.mark.parametrize(("expression", "value"), [("-0", 0), ("1.0", 1), ("100 / 10", 10)])
def test_a_whole_number_is_an_integer(run: Run, expression: str, value: int) -> None:
    data = run(f"function decodeUplink() {{ return {{ data: {{ v: {expression} }} }}; }}").data
    assert repr(data) == repr({"v": value})


@pytest.mark.parametrize("expression", ["undefined", "() => 1", "Symbol('s')"])
def test_what_is_no_value_is_left_out(run: Run, expression: str) -> None:
    assert run(f"function decodeUplink() {{ return {{ data: {{ v: {expression}, w: 1 }} }}; }}").data == {
        "w": 1
    }


@pytest.mark.parametrize(
    ("result", "names"),
    [
        ("Promise.resolve({data: {}})", "a promise"),
        ("(async () => ({data: {}}))()", "a promise"),
        ("5", "a number"),
        ("'text'", "a string"),
        ("null", "null"),
        ("undefined", "nothing"),
        ("[]", "an array"),
        ("{}", "without data, errors or warnings"),
        ("{temperature: 5}", "without data, errors or warnings"),
        ("{data: [1]}", "decodeUplink's data is an array"),
        ("{data: 'text'}", "decodeUplink's data is a string"),
        ("{data: Promise.resolve({})}", "a promise"),
        ("(() => { const a = {}; a.a = a; return {data: a}; })()", "circular reference"),
        ("{data: {s: 'x'.repeat(300000)}}", "262144 are allowed"),
    ],
)
def test_a_result_that_is_none(run: Run, result: str, names: str) -> None:
    outcome = run(f"function decodeUplink() {{ return {result}; }}")
    assert outcome.failure == "output"
    assert names in outcome.errors[0]
    assert not outcome.retryable


def test_nesting_that_no_reader_takes_is_a_failure(run: Run) -> None:
    source = (
        "function decodeUplink() { let a = {}; for (let i = 0; i < 1500; i++) a = {a}; return {data: a}; }"
    )
    assert run(source).failure in {"output", "stack"}


@pytest.mark.parametrize(
    ("thrown", "message"),
    [
        ("'no'", "a string was thrown: no"),
        ("null", "null was thrown: null"),
        ("undefined", "nothing was thrown: undefined"),
        ("{code: 4}", 'an object was thrown: {"code":4}'),
        ("Symbol('s')", "a symbol was thrown: Symbol(s)"),
        ("new TypeError('short frame')", "TypeError: short frame (line 2)"),
        (
            "new Proxy({}, {get() { throw 1; }, getPrototypeOf() { throw 2; }})",
            "what cannot be shown was thrown",
        ),
    ],
)
def test_whatever_is_thrown(run: Run, thrown: str, message: str) -> None:
    outcome = run(f"function decodeUplink() {{\n throw {thrown}; }}")
    assert (outcome.failure, outcome.errors, outcome.data) == ("threw", [message], None)


def test_text_of_every_plane_goes_in(run: Run) -> None:
    source = (
        "function encodeDownlink({data, variables}) { return {bytes: [data.s.length, variables.t.length]}; }"
    )
    outcome = run(source, function="encode_downlink", data={"s": "Huế 🌊\x00"}, variables={"t": "ĐỒNG"})
    assert outcome.data == {"bytes": [7, 4]}
