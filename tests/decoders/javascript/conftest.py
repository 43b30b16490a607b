"""One pool for all tests that do not disturb it; each test's codec has a text, and so an id, of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from decoders.javascript.workers import Call, Function, JsWorkers, Outcome

Run = Callable[..., Outcome]


@pytest.fixture(scope="session")
def workers() -> Iterator[JsWorkers]:
    with JsWorkers() as pool:
        yield pool


@pytest.fixture
def run(workers: JsWorkers) -> Run:
    def run_one(
        source: str,
        *,
        function: Function = "decode_uplink",
        fresh: bool = False,
        f_port: int = 1,
        payload: bytes = b"\x01\x02",
        recv_time_us: int = 1_700_000_000_123_456,
        variables: dict[str, Any] | None = None,
        data: Any = None,
        more: dict[str, Any] | None = None,
    ) -> Outcome:
        codec = workers.add(source, fresh=fresh)
        call = Call(codec, function, f_port, payload, recv_time_us, variables or {}, data, more or {})
        return workers.run([call])[0]

    return run_one
