"""What waits for the database is bounded, and a writer that ends is noticed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, cast

import psycopg
import pytest
from prometheus_client import REGISTRY

from ingest import batcher as batching
from ingest.batcher import Batcher
from ingest.transaction import BatchWriter
from telemetry.model import RawMessage
from tests.ingest.store import NOW
from tests.wait import PATIENCE, until


class Away:
    """A writer whose database is away until `back` is set."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.asked = 0

    def commit(self, items: Sequence[Any], prepared: Any, compute: Any) -> Any:
        self.asked += 1
        if not self.back.is_set():
            raise psycopg.OperationalError("away")
        raise SystemExit("a codec may do this")

    def prepare(self, items: Sequence[Any]) -> None:
        """Nothing is known ahead."""

    def close(self) -> None:
        """Nothing is open."""


def message(qos: int, size: int = 1) -> RawMessage:
    return RawMessage("t", b"x" * size, NOW, "mqtt", qos)


@pytest.mark.parametrize(("most", "size"), [("MOST_WAITING", 1), ("MOST_BYTES", 10)])
async def test_what_waits_is_bounded(most: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, most, 10 * size)
    writer = Away()
    batcher = Batcher(cast(BatchWriter, writer), batch_size=1, max_message=1000)
    waiting = [batcher.submit(message(1, size)) for _ in range(10)]
    await until(lambda: writer.asked)  # what the writer holds counts too
    before = REGISTRY.get_sample_value("quantrac_ingest_dropped_total")
    dropped, refused = batcher.submit(message(0)), batcher.submit(message(1))
    assert (dropped.done(), dropped.cancelled(), refused.cancelled()) == (True, False, True)
    assert REGISTRY.get_sample_value("quantrac_ingest_dropped_total") == (before or 0) + 1
    assert not any(future.done() for future in waiting)
    assert not await batcher.close(0.1)
    await asyncio.sleep(0)
    assert all(future.cancelled() for future in waiting)


async def test_a_writer_that_ends_says_so_and_reports_nothing_as_done() -> None:
    writer = Away()
    writer.back.set()
    batcher = Batcher(cast(BatchWriter, writer), batch_size=10, max_message=1000)
    future = batcher.submit(message(1))
    async with asyncio.timeout(PATIENCE):
        error = await batcher.ended()
    assert isinstance(error, SystemExit)
    with pytest.raises(asyncio.CancelledError):
        await future
    assert batcher.submit(message(1)).cancelled()
    assert not await batcher.close(1)


async def test_who_gives_up_waiting_takes_nobody_along() -> None:
    writer = Away()
    batcher = Batcher(cast(BatchWriter, writer), batch_size=10, max_message=1000)
    one, other = batcher.submit(message(1)), batcher.submit(message(1))
    one.cancel()
    await asyncio.sleep(0)
    assert one.cancelled()
    assert not other.done()
    await batcher.close(0.1)
