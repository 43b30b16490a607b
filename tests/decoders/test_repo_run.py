"""Running the vectors of a checkout through the JavaScript runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from decoders.devicerepo.checkout import open_checkout
from decoders.devicerepo.model import RepoCodec
from decoders.devicerepo.run import run_checkout
from decoders.javascript.workers import Call, JsWorkers, Outcome

from .repo_trees import CHIRPSTACK, CODEC, TTN, write


@pytest.fixture(scope="module")
def workers() -> Iterator[JsWorkers]:
    with JsWorkers(call_timeout=5) as workers:
        yield workers


def test_all_of_ttns_pass(tmp_path: Path, workers: JsWorkers) -> None:
    report = run_checkout(open_checkout(write(tmp_path, TTN)), workers)
    assert report.failed == []
    assert report.skipped == []
    assert report.passed == {
        "decode_uplink": 3,
        "normalize_uplink": 1,
        "encode_downlink": 3,
        "decode_downlink": 1,
    }
    assert str(report) == "8 passed, 0 failed"


def test_all_of_chirpstacks_pass(tmp_path: Path, workers: JsWorkers) -> None:
    report = run_checkout(open_checkout(write(tmp_path, CHIRPSTACK)), workers)
    assert [str(miss) for miss in report.failed] == []
    assert report.passed.total() == 2


def test_a_miss_tells_every_difference(tmp_path: Path, workers: JsWorkers) -> None:
    wrong = CODEC.replace("/ 10,", "/ 5,").replace("'on'", "1")
    report = run_checkout(open_checkout(write(tmp_path, TTN, {"rw100.js": wrong})), workers)
    assert str(report) == "6 passed, 2 failed"
    assert report.failing_codecs() == {RepoCodec.of("", wrong).id}
    assert (
        "vendor/river-works/rw100-codec.yaml: uplinkDecoder.examples[0]"
        " (on, by words that YAML 1.1 takes for booleans):\n"
        "  data.level: expected 2.1, got 4.2\n"
        "  data.state: expected 'on', got 1"
    ) in [str(miss) for miss in report.failed]


def test_a_codec_that_is_no_javascript_fails_its_vectors(tmp_path: Path, workers: JsWorkers) -> None:
    write(tmp_path, TTN)
    (tmp_path / "vendor/river-works/rw100.js").write_text("function (")
    report = run_checkout(open_checkout(tmp_path), workers)
    assert report.passed.total() == 0
    assert {miss.failure for miss in report.failed} == {"source"}


def test_a_codec_that_is_too_large_is_skipped(tmp_path: Path, workers: JsWorkers) -> None:
    large = CODEC + "//" + "x" * 1024 * 1024
    report = run_checkout(open_checkout(write(tmp_path, TTN, {"rw100.js": large})), workers)
    assert str(report) == "0 passed, 0 failed"
    (problem,) = report.skipped
    assert problem.file == "vendor/river-works/rw100.js"


class _Hesitant:
    """Answers every call with a time-out first."""

    def __init__(self) -> None:
        self.tries: list[int] = []

    def add(self, source: str) -> str:
        return "id"

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        self.tries.append(len(calls))
        if len(calls) > 1:
            return [Outcome(failure="timeout", errors=["slow"]) for _ in calls]
        return [Outcome(data={"minutes": 10})]


def test_what_timed_out_is_tried_once_more(tmp_path: Path) -> None:
    runtime = _Hesitant()
    report = run_checkout(open_checkout(write(tmp_path, TTN)), runtime)
    assert runtime.tries == [8, *[1] * 8]
    assert report.passed == {"decode_downlink": 1}
