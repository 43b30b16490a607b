"""The same frame always decodes the same: nothing passes from call to call or from codec to codec."""

from __future__ import annotations

import pytest

from decoders.javascript.runtime import Runtime
from decoders.javascript.workers import Call, JsWorkers

from .conftest import Run

# What stands before the function, and what it does: n is 1 from a clean start, else the call sees a trace.
STATEFUL = {
    "variable": ("var count = 0;", "const n = ++count;"),
    "closure": ("const next = (() => { let count = 0; return () => ++count; })();", "const n = next();"),
    "object kept between frames": ("const kept = {n: 0};", "const n = ++kept.n;"),
    "regular expression's index": ("const r = /a/g;", "r.test('aa'); const n = r.lastIndex;"),
    "undeclared": ("", "n = (typeof n === 'undefined' ? 0 : n) + 1;"),
    "global": ("", "const n = globalThis.n = (globalThis.n ?? 0) + 1;"),
    "hidden global": (
        "const hide = (value) => Object.defineProperty(globalThis, 'm', {value, configurable: true});",
        "const n = (globalThis.m ?? 0) + 1; hide(n);",
    ),
    "fixed global": (
        "const fix = (value) => Object.defineProperty(globalThis, 'm', {value, enumerable: true});",
        "const n = (globalThis.m ?? 0) + 1; fix(n);",
    ),
    "prototype": ("", "const n = Array.prototype.n = ([].n ?? 0) + 1;"),
    "every prototype": (
        "const hide = (value) => Object.defineProperty(Object.prototype, 'm', {value, configurable: true});",
        "const n = ({}.m ?? 0) + 1; hide(n);",
    ),
    "method replaced": ("", "const n = Math.abs(-1); Math.abs = () => n + 1;"),
    "getter replaced": (
        "const set = (get) => Object.defineProperty(Map.prototype, 'size', {get});",
        "const n = new Map([[1, 1]]).size; set(() => n + 1);",
    ),
    "iterator's prototype": (
        "const proto = Object.getPrototypeOf([][Symbol.iterator]());",
        "const n = proto.n = (proto.n ?? 0) + 1;",
    ),
    "frozen": ("", "const n = Object.isFrozen(Math) ? 2 : 1; Object.freeze(Math);"),
    "console": ("", "const n = console.n = (console.n ?? 0) + 1;"),
    "promise": (
        "",
        "const n = (globalThis.m ?? 0) + 1; Promise.resolve().then(() => { globalThis.m = n; });",
    ),
    "Buffer": ("", "const n = Buffer.n = (Buffer.n ?? 0) + 1;"),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_no_trace_of_the_call_before(workers: JsWorkers, name: str) -> None:
    before, body = STATEFUL[name]
    codec = workers.add(f"{before} function decodeUplink() {{ {body} return {{data: {{n}}}}; }}")
    for _ in range(3):
        outcomes = workers.run([Call(codec, "decode_uplink", 1, b"\x01")] * 20)
        assert [outcome.errors for outcome in outcomes] == [[]] * 20
        assert [outcome.data for outcome in outcomes] == [{"n": 1}] * 20


@pytest.mark.parametrize(
    ("source", "fresh"),
    [
        ("function Decode() { return {}; }", False),
        ("function Decode() { throw new Error('short'); }", False),
        ("function Decode() { for (i = 0; i < 3; i++); return {i}; }", False),
        ("function Decode(p, b) { return {n: Buffer.from(b).readUInt8(0)}; }", False),
        ("function f() { return 1; } function Decode() { return {n: this.f()}; }", False),
        ("String.prototype.f = () => 1; function Decode() { return {n: ''.f()}; }", True),
    ],
)
def test_a_context_is_kept_unless_a_codec_changes_it(source: str, fresh: bool) -> None:
    runtime = Runtime(0.05, lambda position, seconds: None)
    runtime.add("c", source, False)
    calls = list(enumerate([Call("c", "decode_uplink", 1, b"\x01")] * 20))
    answers = [answer for run in runtime.run("c", calls, 0, False) for answer in run]
    assert [position for position, _, _ in answers] == list(range(20))
    assert runtime.is_fresh("c") is fresh


def test_input_is_new_for_each_call(workers: JsWorkers) -> None:
    codec = workers.add("function Decode(p, b, v) { b.push(9); v.x = (v.x ?? 0) + 1; return {b, x: v.x}; }")
    outcomes = workers.run([Call(codec, "decode_uplink", 1, b"\x01")] * 3)
    assert [outcome.data for outcome in outcomes] == [{"b": [1, 9], "x": 1}] * 3


POLLUTER = """
    secret = 'of A'; globalThis.kept = 'of A';
    Object.prototype.leak = 'of A'; Array.prototype.map = () => 'of A'; JSON.stringify = () => 'of A';
    Object.prototype.toJSON = () => 'of A'; String.prototype.slice = () => 'of A'; Date.now = () => 1;
    function decodeUplink() { return {data: {a: 1}}; }"""


def test_a_codec_sees_nothing_of_another(workers: JsWorkers) -> None:
    polluter = workers.add(POLLUTER)
    reader = workers.add("""function decodeUplink({bytes}) { return {data: {
        secret: typeof secret, kept: typeof kept, leak: typeof ({}).leak, mapped: bytes.map(b => b + 1),
        text: JSON.stringify({a: 1}), cut: 'abc'.slice(1), globals: Object.keys(globalThis) }}; }""")
    calls = [Call(codec, "decode_uplink", 1, b"\x01") for codec in (polluter, reader) * 5]
    for outcome in workers.run(calls)[1::2]:
        assert outcome.data == {
            "secret": "undefined",
            "kept": "undefined",
            "leak": "undefined",
            "mapped": [2],
            "text": '{"a":1}',
            "cut": "bc",
            "globals": [],
        }


def test_polyfills_work(workers: JsWorkers) -> None:
    codec = workers.add("""
        if (!Object.assign) { Object.defineProperty(Object, 'assign', {value: () => { throw 1; }}); }
        String.prototype.repeatTwice = function () { return this + this; };
        Number.prototype.round = function (n) { return Number(this.toFixed(n)); };
        function Decode() { return Object.assign({s: 'ab'.repeatTwice()}, {n: 1.234.round(1)}); }""")
    outcomes = workers.run([Call(codec, "decode_uplink", 1, b"\x01")] * 10)
    assert [outcome.data for outcome in outcomes] == [{"s": "abab", "n": 1.2}] * 10


CLOCK = """function decodeUplink() { return {data: {
    now: Date.now(), new: new Date(), called: Date(), given: new Date(5).getTime(),
    parts: new Date(2020, 0, 2), utc: Date.UTC(1970, 0, 1), is: new Date() instanceof Date,
    same: new Date().constructor === Date, name: Date.name, zone: new Date().getTimezoneOffset() }}; }"""


def test_the_clock_stands_at_the_receive_time(run: Run) -> None:
    assert run(CLOCK, recv_time_us=1_700_000_000_123_999).data == {
        "now": 1_700_000_000_123,
        "new": "2023-11-14T22:13:20.123Z",
        "called": "Tue Nov 14 2023 22:13:20 GMT+0000",
        "given": 5,
        "parts": "2020-01-02T00:00:00.000Z",
        "utc": 0,
        "is": True,
        "same": True,
        "name": "Date",
        "zone": 0,
    }


def test_chance_belongs_to_the_frame(workers: JsWorkers) -> None:
    codec = workers.add("function decodeUplink() { return {data: {r: [Math.random(), Math.random()]}}; }")

    def drawn(*frames: tuple[int, bytes]) -> list[list[float]]:
        return [
            outcome.data["r"] for outcome in workers.run([Call(codec, "decode_uplink", *f) for f in frames])
        ]

    first, again, port, payload = drawn((1, b"a"), (1, b"a"), (2, b"a"), (1, b"b"))
    assert first == again
    assert len({*first, *port, *payload}) == 6
    assert all(0 <= number < 1 for number in (*first, *port, *payload))
    with JsWorkers() as others:
        others.add("function decodeUplink() { return {data: {r: [Math.random(), Math.random()]}}; }")
        assert others.run([Call(codec, "decode_uplink", 1, b"a")])[0].data["r"] == first


def test_a_fresh_context_for_each_call_where_asked(run: Run) -> None:
    # The one trace that is not looked for: a property of a plain built-in function.
    source = "function decodeUplink() { isNaN.n = (isNaN.n ?? 0) + 1; return {data: {n: isNaN.n}}; }"
    assert [run(source, fresh=True).data for _ in range(3)] == [{"n": 1}] * 3
    assert run(source).data == {"n": 1}, "once asked for, it stays"
