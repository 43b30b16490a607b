"""Every form in which vendors ship codecs is called as its network server calls it."""

from __future__ import annotations

import pytest

from .conftest import Run

ECHO = "{ bytes, fPort, variables, array: Array.isArray(bytes) }"
SEEN = {"bytes": [1, 2], "fPort": 7, "variables": {"k": "v"}, "array": True}


@pytest.mark.parametrize(
    "source",
    [
        f"function decodeUplink({{ bytes, fPort, variables }}) {{ return {{ data: {ECHO} }}; }}",
        f"function Decode(fPort, bytes, variables) {{ return {ECHO}; }}",
        f"function Decoder(bytes, fPort) {{ const variables = {{ k: 'v' }}; return {ECHO}; }}",
        f"var decodeUplink = ({{ bytes, fPort, variables }}) => ({{ data: {ECHO} }})  // no line end",
        f"'use strict'; const Decode = (fPort, bytes, variables) => ({ECHO});",
        f"decodeUplink = function ({{ bytes, fPort, variables }}) {{ return {{ data: {ECHO} }}; }};",
        f"this.Decode = function (fPort, bytes, variables) {{ return {ECHO}; }};",
    ],
    ids=["TS013", "ChirpStack v3", "TTN v2", "var", "strict const", "undeclared", "this"],
)
def test_uplink(run: Run, source: str) -> None:
    outcome = run(source, f_port=7, variables={"k": "v"})
    assert outcome.errors == []
    assert outcome.data == SEEN


def test_the_newest_form_is_preferred(run: Run) -> None:
    source = """
        function Decoder() { return { by: 'Decoder' }; }
        function Decode() { return { by: 'Decode' }; }
        function decodeUplink() { return { data: { by: 'decodeUplink' } }; }"""
    assert run(source).data == {"by": "decodeUplink"}


@pytest.mark.parametrize(
    "source",
    [
        "function f(b) { return b * 2; } function Decode(p, bytes) { return {n: this.f(bytes[1])}; }",
        "var f = (b) => b * 2;\nfunction Decode(p, bytes) { return {n: globalThis.f(bytes[1])}; }",
        "const k = 2; function f(b) { return b * k; }"
        " function Decode(p, bytes) { return {n: this.f(bytes[1])}; }",
        "class A { f(b) { return b * 2; } g(b) { return this.f(b); } } function f() { return 0; }"
        " function Decode(p, bytes) { return {n: new A().g(bytes[1])}; }",
        "'use strict'; function f(b) { return b * 2; } function Decode(p, bytes) {"
        " return {n: typeof this === 'undefined' ? f(bytes[1]) : this.f(1)}; }",
    ],
)
def test_a_codec_finds_its_functions_on_the_global_object(run: Run, source: str) -> None:
    for _ in range(3):
        outcome = run(source)
        assert (outcome.errors, outcome.data) == ([], {"n": 4})


def test_such_a_codec_starts_anew_each_time_too(run: Run) -> None:
    source = (
        "var n = 0; function f() { return ++n; } function Decode() { return {n: this.f(), m: typeof f}; }"
    )
    assert [run(source).data for _ in range(3)] == [{"n": 1, "m": "function"}] * 3
    wrong = run("function f() {}\nfunction Decode() { this.f(; }")
    assert (wrong.failure, wrong.errors[0][-8:]) == ("source", "(line 2)")


def test_more_members_of_the_input(run: Run) -> None:
    source = "function encodeDownlink(input) { return {bytes: [input.command, input.fPort]}; }"
    outcome = run(source, function="encode_downlink", f_port=3, data={}, more={"command": 1, "fPort": 9})
    assert outcome.data == {"bytes": [1, 3]}


def test_receive_time_is_a_date(run: Run) -> None:
    source = (
        "function decodeUplink({recvTime}) { return {data: {t: recvTime, d: recvTime instanceof Date}}; }"
    )
    assert run(source).data == {"t": "2023-11-14T22:13:20.123Z", "d": True}


def test_warnings_and_errors_of_the_codec(run: Run) -> None:
    both = run(
        "function decodeUplink() { return { data: { a: 1 }, warnings: ['low battery'], errors: [] }; }"
    )
    assert (both.data, both.warnings, both.errors) == ({"a": 1}, ["low battery"], [])
    refused = run("function decodeUplink() { return { errors: ['unknown port', new Error('short')] }; }")
    assert (refused.data, refused.errors, refused.failure) == (None, ["unknown port", "Error: short"], None)
    assert run("function decodeUplink() { return { errors: 'one text' }; }").errors == ["one text"]
    assert run("function decodeUplink() { return { warnings: ['nothing in it'] }; }").errors == []


@pytest.mark.parametrize(
    ("source", "data"),
    [
        (
            "function encodeDownlink({data, fPort}) { return {bytes: [data.on ? 1 : 0], fPort: fPort + 1}; }",
            {"bytes": [1], "fPort": 5},
        ),
        ("function encodeDownlink({data}) { return {bytes: new Uint8Array([9])}; }", {"bytes": [9]}),
        ("function Encode(fPort, data, variables) { return [fPort, variables.x]; }", {"bytes": [4, 3]}),
        ("function Encoder(data, fPort) { return [data.on ? 8 : 0, fPort]; }", {"bytes": [8, 4]}),
    ],
)
def test_encode_downlink(run: Run, source: str, data: object) -> None:
    outcome = run(source, function="encode_downlink", f_port=4, data={"on": True}, variables={"x": 3})
    assert outcome.errors == []
    assert outcome.data == data


@pytest.mark.parametrize(
    ("result", "names"),
    [
        ("{bytes: [256]}", "[0] is 256"),
        ("{bytes: [1, -1]}", "[1] is -1"),
        ("{bytes: [0.5]}", "[0] is 0.5"),
        ("{bytes: 'ff'}", "a string"),
        ("{bytes: [1], fPort: 300}", "fPort 300"),
        ("[1, 2]", "an array where an object"),
    ],
)
def test_an_encoder_that_gives_no_frame(run: Run, result: str, names: str) -> None:
    outcome = run(f"function encodeDownlink() {{ return {result}; }}", function="encode_downlink", data={})
    assert outcome.failure == "output"
    assert names in outcome.errors[0]


def test_decode_downlink(run: Run) -> None:
    source = "function decodeDownlink({bytes, fPort}) { return {data: {sum: bytes[0] + bytes[1] + fPort}}; }"
    assert run(source, function="decode_downlink", f_port=5).data == {"sum": 8}


def test_normalize_uplink_gives_one_or_many(run: Run) -> None:
    one = "function normalizeUplink({data}) { return {data: {air: {temperature: data.t / 10}}}; }"
    assert run(one, function="normalize_uplink", data={"t": 215}).data == {"air": {"temperature": 21.5}}
    many = "function normalizeUplink({data}) { return {data: data.t.map(t => ({air: {temperature: t}}))}; }"
    assert run(many, function="normalize_uplink", data={"t": [1, 2]}).data == [
        {"air": {"temperature": 1}},
        {"air": {"temperature": 2}},
    ]
    wrong = "function normalizeUplink() { return {data: [1]}; }"
    assert run(wrong, function="normalize_uplink", data={}).failure == "output"


def test_a_function_that_is_not_there(run: Run) -> None:
    outcome = run("function encodeDownlink() {}")
    assert outcome.failure == "missing"
    assert "decodeUplink or Decode or Decoder" in outcome.errors[0]


def test_a_source_that_does_not_parse_names_the_line(run: Run) -> None:
    outcome = run("\n\nvar a = ;\nfunction decodeUplink() {}")
    assert outcome.failure == "source"
    assert "(line 3)" in outcome.errors[0]


def test_console_is_captured_and_bounded(run: Run) -> None:
    said = run(
        "function decodeUplink() { console.log('a', 1, {b: [2]}, null); console.warn(); return {data: {}}; }"
    )
    assert said.console == ['a 1 {"b":[2]} null', ""]
    much = run(
        "function decodeUplink() { for (let i = 0; i < 1e3; i++) console.error('x'.repeat(1e4)); throw 1; }"
    )
    assert [len(line) for line in much.console] == [500] * 50
    assert run("function decodeUplink() { return {data: {}}; }").console == []
