"""`normalizeUplink` runs with `decodeUplink`, in the same call, and can spoil nothing of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from decoders.javascript.calls import SLOW_MICROS, read_outcome
from decoders.javascript.engine import is_strike
from decoders.javascript.workers import JsWorkers

from .conftest import Run

DECODES = "function decodeUplink(i) { return {data: {t: i.bytes[0]}, warnings: ['cold']}; }"


def normalizing(body: str) -> str:
    return f"{DECODES} function normalizeUplink(i) {{ {body} }}"


def test_it_gets_what_was_decoded(run: Run) -> None:
    source = normalizing("return {data: {air: {temperature: i.data.t / 2}, x: [i.fPort, i.variables.k]}};")
    outcome = run(source, f_port=7, variables={"k": "v"})
    assert (outcome.data, outcome.warnings, outcome.errors) == ({"t": 1}, ["cold"], [])
    own = outcome.own_normalized()
    assert own
    assert (own.data, own.errors) == ({"air": {"temperature": 0.5}, "x": [7, "v"]}, [])


def test_what_it_changes_are_not_the_fields(run: Run) -> None:
    outcome = run(normalizing("i.data.t = 9; delete i.data; return {data: [{battery: 3}], warnings: 'w'};"))
    assert outcome.data == {"t": 1}
    own = outcome.own_normalized()
    assert own
    assert (own.data, own.warnings) == ([{"battery": 3}], ["w"])


def test_the_console_is_one(run: Run) -> None:
    source = normalizing("console.log('second'); throw new Error('no');").replace(
        "return {data", "console.log('first'); return {data", 1
    )
    outcome = run(source)
    assert outcome.console == ["first", "second"]
    own = outcome.own_normalized()
    assert own
    assert own.console == []


@pytest.mark.parametrize(
    ("body", "failure", "said"),
    [
        ("throw new Error('no');", "threw", "Error: no (line 1)"),
        ("return i.data.no.such;", "threw", "TypeError"),
        ("return 5;", "output", "a number"),
        ("return {};", "output", "without data"),
        ("return {data: [5]};", "output", "data[0]"),
        ("return Promise.resolve({data: {}});", "output", "promise"),
        ("const a = {}; a.a = a; return {data: a};", "output", "circular"),
        ("return {data: {x: 'x'.repeat(300000)}};", "output", "262144 are allowed"),
        ("return normalizeUplink(i);", "stack", "Maximum call stack"),
        ("let a = []; for (let n = 0; n < 2000; n++) a = [a]; return {data: {a}};", "output", "recursion"),
        ("new ArrayBuffer(2 ** 26);", "memory", "out of memory"),
    ],
)
def test_its_failures_cost_no_field(run: Run, body: str, failure: str, said: str) -> None:
    outcome = run(normalizing(body))
    assert (outcome.data, outcome.errors, outcome.failure) == ({"t": 1}, [], None)
    own = outcome.own_normalized()
    assert own
    assert own.failure == failure
    assert said in own.errors[0]


def test_a_context_that_ran_out_of_memory_is_given_up(workers: JsWorkers, run: Run) -> None:
    source = normalizing("if (i.data.t > 1) new ArrayBuffer(2 ** 26); return {data: {}};")
    for payload in (b"\x02", b"\x01", b"\x02", b"\x01"):
        outcome = run(source, payload=payload)
        own = outcome.own_normalized()
        assert own
        assert (own.failure == "memory") == (payload == b"\x02")


def test_half_a_surrogate_pair(run: Run) -> None:
    own = run(normalizing("return {data: {a: '\\ud800', b: '\\\\ud800'}};")).own_normalized()
    assert own
    assert own.data == {"a": "\ufffd", "b": "\\ud800"}


@pytest.mark.parametrize(
    "source",
    [
        DECODES,
        "function decodeUplink() { return {errors: ['no'], data: {}}; } function normalizeUplink() { }",
        "function decodeUplink() { return {warnings: ['no']}; } function normalizeUplink() { return 1; }",
        "function Decoder() { return {t: 1}; } function normalizeUplink() { return 1; }",
        f"{DECODES} var normalizeUplink = 5;",
    ],
    ids=["none", "errors", "no fields", "older form", "no function"],
)
def test_where_it_is_not_asked(run: Run, source: str) -> None:
    outcome = run(source)
    assert outcome.failure is None
    assert outcome.own_normalized() is None


def test_fields_that_have_no_json(run: Run) -> None:
    outcome = run(
        "function decodeUplink() { return {data: {toJSON() {}}}; }"
        " function normalizeUplink() { return {data: {battery: 3}}; }"
    )
    own = outcome.own_normalized()
    assert own
    assert (outcome.data, own.data) == (None, {"battery": 3})


def test_one_that_hangs_stops_the_call(run: Run) -> None:
    assert run(normalizing("for (;;);")).failure == "timeout"


@pytest.mark.parametrize(
    ("normalized", "micros", "slow"),
    [
        ({"failure": "threw", "errors": ["x"]}, SLOW_MICROS, True),
        ({"failure": "threw", "errors": ["x"]}, SLOW_MICROS - 1, False),
        ({"data": {}}, SLOW_MICROS, False),
        ({"errors": ["x"]}, SLOW_MICROS, False),
    ],
)
def test_one_that_fails_slowly_counts_against_its_codec(
    normalized: dict[str, Any], micros: int, slow: bool
) -> None:
    answer = json.dumps({"normalized": json.dumps(normalized, separators=(",", ":"))}, separators=(",", ":"))
    assert is_strike(answer, micros) is slow
    outcome = read_outcome(answer)
    outcome.micros = micros
    assert outcome.slow_failure is slow
