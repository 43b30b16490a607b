"""The pool: order, size, threads, what it counts and refuses."""

from __future__ import annotations

import threading

import pytest

from decoders.javascript.quarantine import Quarantine
from decoders.javascript.workers import Call, JsWorkers, Outcome
from telemetry.errors import UsageError

SUM = "function Decode(fPort, bytes) { return {sum: bytes.reduce((a, b) => a + b, fPort)}; }"


def test_ten_thousand_calls_come_back_in_order() -> None:
    with JsWorkers(2) as workers:
        codecs = [workers.add(f"{SUM} // {number}") for number in range(7)]
        calls = [Call(codecs[i % 7], "decode_uplink", i % 200, bytes([i % 251, 3])) for i in range(10_000)]
        outcomes = workers.run(calls)
        assert [outcome.data for outcome in outcomes] == [
            {"sum": i % 200 + i % 251 + 3} for i in range(10_000)
        ]
        assert len(workers.pids()) == 2
        assert workers.counts().calls == 10_000


@pytest.mark.parametrize("count", [1, 2])
def test_threads_share_a_pool(count: int) -> None:
    with JsWorkers(count) as workers:
        codecs = [workers.add(f"{SUM} // {number}") for number in range(5)]
        results: dict[int, list[Outcome]] = {}

        def batches(thread: int) -> None:
            calls = [Call(codecs[i % 5], "decode_uplink", thread, bytes([i])) for i in range(200)]
            results[thread] = [outcome for _ in range(5) for outcome in workers.run(calls)]

        threads = [threading.Thread(target=batches, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for number in range(3):
            assert [outcome.data for outcome in results[number]] == [
                {"sum": number + i} for i in range(200)
            ] * 5


def test_adding_is_by_content(workers: JsWorkers) -> None:
    assert workers.add(SUM) == workers.add(SUM) != workers.add(SUM + " ")
    with pytest.raises(UsageError, match="1048576 are allowed"):
        workers.add("/" * 1_100_000)
    with pytest.raises(UsageError, match="valid Unicode"):
        workers.add("'\ud800'")


def test_a_codec_that_was_not_added(workers: JsWorkers) -> None:
    with pytest.raises(UsageError, match="no JavaScript codec 'nobody'"):
        workers.run([Call("nobody", "decode_uplink")])


def test_nothing_to_do(workers: JsWorkers) -> None:
    assert workers.run([]) == []


def test_a_large_source_has_time_to_be_parsed(workers: JsWorkers) -> None:
    bulk = "".join(f"function f{number}(a) {{ return a + {number} * 2; }}\n" for number in range(20_000))
    outcome = workers.run([Call(workers.add(bulk + SUM), "decode_uplink", 1, b"\x02")])[0]
    assert outcome.data == {"sum": 3}


def test_time_used_is_told(workers: JsWorkers) -> None:
    codec = workers.add("function Decode() { for (let i = 0; i < 1e5; i++); return {}; }")
    assert workers.run([Call(codec, "decode_uplink")])[0].micros > 100


class _Seconds:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_quarantine_backs_off_and_forgets() -> None:
    clock = _Seconds()
    quarantine = Quarantine(clock)
    quarantine.strike("a")
    assert (quarantine.seconds_left("a"), quarantine.strikes("a")) == (0, 1)
    quarantine.strike("a")
    assert quarantine.seconds_left("a") == 10
    assert quarantine.out() == ["a"]
    assert quarantine.seconds_left("b") == 0
    clock.now += 10
    assert (quarantine.seconds_left("a"), quarantine.strikes("a")) == (0, 1)
    for seconds in (20, 40, 80, 160, 320, 600, 600):
        quarantine.strike("a")
        assert quarantine.seconds_left("a") == seconds
        clock.now += seconds
    clock.now += 61
    assert quarantine.strikes("a") == 0
    quarantine.strike("a")
    assert quarantine.seconds_left("a") == 0


def test_single_strikes_far_apart_are_forgotten() -> None:
    clock = _Seconds()
    quarantine = Quarantine(clock)
    for _ in range(5):
        quarantine.strike("a")
        assert quarantine.seconds_left("a") == 0
        clock.now += 61


def test_a_lost_process_weighs_as_much_as_two() -> None:
    quarantine = Quarantine(_Seconds())
    quarantine.strike("a", 2)
    assert quarantine.seconds_left("a") == 10
