"""Codecs that mean harm, or are written so: each costs its own frame, within bounds, and says why."""

from __future__ import annotations

import time

import pytest

from decoders.javascript.workers import Call, JsWorkers

from .conftest import Run

GOOD = "function decodeUplink({bytes}) { return {data: {first: bytes[0]}}; }"

# The engine stops the first ones; it does not look at the clock in the last three, so their process ends.
HOSTILE = {
    "endless loop": ("for (;;);", {"timeout"}),
    "loop that catches": ("for (;;) { try { for (;;); } catch { } finally { continue; } }", {"timeout"}),
    "catastrophic regular expression": ("/^(a+)+$/.test('a'.repeat(40) + 'b')", {"timeout"}),
    "loop in toJSON": ("return {data: {toJSON() { for (;;); }}}", {"timeout"}),
    "4 GB array": ("return {data: {n: new Array(2 ** 29).fill(1.5).length}}", {"memory", "timeout"}),
    "many arrays": ("const a = []; for (;;) a.push(new Float64Array(1 << 17));", {"memory", "timeout"}),
    "typed array of 4 GB": ("return {data: {a: new Uint8Array(2 ** 32)}}", {"memory", "threw"}),
    "memory taken again and again": (
        "const a = []; for (;;) { try { a.push(new Array(1e5).fill(0)); } catch { } }",
        {"memory", "timeout"},
    ),
    "deep recursion": ("const f = () => f() + 1; return f()", {"stack"}),
    "deep recursion that catches": (
        "function f() { try { return f(); } catch { return f(); } } f()",
        {"stack", "timeout"},
    ),
    "10 MB output": ("return {data: {s: 'x'.repeat(10 << 20)}}", {"output", "timeout", "memory"}),
    "10 MB thrown": ("throw 'x'.repeat(10 << 20)", {"threw"}),
    "sort without end": ("Array.prototype.sort.call({length: 2 ** 53 - 1})", {"timeout"}),
    "number without end": ("(3n ** 1000000n).toString()", {"timeout"}),
    "spread without end": ("Array.prototype.includes.call({length: 2 ** 53 - 1}, 1)", {"timeout"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_neighbours_are_decoded(workers: JsWorkers, name: str) -> None:
    body, reasons = HOSTILE[name]
    hostile = workers.add(f"function decodeUplink() {{ {body} }}")
    good = [workers.add(f"{GOOD} // {name} {number}") for number in range(4)]
    calls = [Call(good[i % 4], "decode_uplink", 1, bytes([i])) for i in range(40)]
    calls[20] = Call(hostile, "decode_uplink", 1, b"\x00")
    outcomes = workers.run(calls)
    bad = outcomes.pop(20)
    assert bad.failure in reasons, bad
    assert bad.data is None
    assert sum(map(len, bad.errors)) <= 500
    assert [outcome.data for outcome in outcomes] == [{"first": i} for i in range(40) if i != 20]
    assert workers.run(calls[:1])[0].data == {"first": 0}


def test_fifty_hanging_frames_cost_two_time_outs() -> None:
    with JsWorkers(call_timeout=0.05) as workers:
        good = workers.add(GOOD)
        loop = workers.add("function decodeUplink() { for (;;); }")
        calls = [Call(loop if i % 2 else good, "decode_uplink", 1, b"\x05") for i in range(100)]
        start = time.process_time()
        outcomes = workers.run(calls)
        assert time.process_time() - start < 1.0
        assert all(outcome.data == {"first": 5} for outcome in outcomes[::2])
        failures = [outcome.failure for outcome in outcomes[1::2]]
        assert failures == ["timeout"] * 2 + ["quarantine"] * 48
        assert all(outcome.retryable for outcome in outcomes[1::2])
        counts = workers.counts()
        assert counts.failures == {"timeout": 2, "quarantine": 48}
        assert counts.quarantined == (loop,)
        # Until its time is over, it is not tried at all.
        assert workers.run(calls[1:2])[0].failure == "quarantine"


def test_a_process_lost_to_a_codec_is_replaced_and_the_codec_left_alone() -> None:
    with JsWorkers(call_timeout=0.05) as workers:
        good = workers.add(GOOD)
        native = workers.add("function decodeUplink() { Array.prototype.sort.call({length: 2 ** 53 - 1}); }")
        workers.start()
        [before] = workers.pids()
        calls = [Call(native if i % 10 == 9 else good, "decode_uplink", 1, b"\x05") for i in range(100)]
        outcomes = workers.run(calls)
        failures = [outcome.failure for outcome in outcomes]
        assert failures.count("timeout") == 1
        assert failures.count("quarantine") == 9
        assert failures.count(None) == 90
        assert workers.pids() != [before]
        assert workers.counts().lost == {"hung": 1}


@pytest.mark.parametrize(
    "name",
    [
        "require", "module", "exports", "process", "std", "os", "print", "load", "fetch", "XMLHttpRequest",
        "WebAssembly", "Worker", "setTimeout", "setInterval", "queueMicrotask", "Atomics",
        "SharedArrayBuffer", "WeakRef", "FinalizationRegistry", "performance", "scriptArgs", "bjson",
        "navigator", "Deno",
    ],
)  # fmt: skip
def test_nothing_leads_outside(run: Run, name: str) -> None:
    assert run(f"function decodeUplink() {{ return {{data: {{t: typeof {name}}}}}; }}").data == {
        "t": "undefined"
    }


@pytest.mark.parametrize("module", ["os", "std", "qjs:os", "/etc/passwd", "file:///etc/passwd", "./x.js"])
def test_an_import_never_succeeds(run: Run, module: str) -> None:
    asked = (
        f"function decodeUplink() {{ const p = import('{module}'); return {{data: {{k: Object.keys(p)}}}}; }}"
    )
    assert run(asked).data == {"k": []}
    waited = f"async function decodeUplink() {{ return {{data: {{m: await import('{module}')}}}}; }}"
    assert run(waited).failure == "output"
    assert run(f"import * as m from '{module}'; function decodeUplink() {{}}").failure == "source"


def test_source_that_closes_our_function_reaches_nothing_of_ours(run: Run) -> None:
    source = "}); var seen = [typeof factories, typeof source, typeof call, typeof RealDate]; (function () {"
    source += " function decodeUplink() { return {data: {seen}}; }"
    assert run(source).data == {"seen": ["undefined"] * 4}
