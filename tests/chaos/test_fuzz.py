"""Two hundred thousand mutated messages of every format, with sound ones between them."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import psycopg
import pytest

from decoders.registry import load_codecs
from ingest.batcher import Batcher
from ingest.transaction import BatchWriter
from telemetry.clock import SystemClock
from telemetry.model import RawMessage
from telemetry.store.pool import connect
from tests.kept import kept_messages
from tests.samples import Sample, formats, samples

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(420)]
MUTATED = 200_000
EVERY = 20
SAMPLES = samples(*formats())
UP = next(s for s in SAMPLES if s.name == "chirpstack_v4/up_full")
STRANGE: list[Any] = [
    None, True, "", "\x00", "\ud800", "x" * 5000, -1, 0, 2**31, 2**63, 2**64, -(10**30), 1e308, -1e-320,
    [], {}, [[[[]]]], {"": {"": {}}}, "1970-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "=", "zz", "NaN",
]  # fmt: skip


def mutated(sample: Sample, rng: random.Random) -> RawMessage:
    """The sample with something wrong in its bytes, its values or its topic."""
    payload, topic = bytearray(sample.payload), sample.topic
    kind = rng.randrange(6)
    if kind == 0:
        for _ in range(rng.randrange(1, 8)):
            payload[rng.randrange(len(payload))] = rng.randrange(256)
    elif kind == 1:
        start = rng.randrange(len(payload))
        del payload[start : start + rng.randrange(1, 200)]
    elif kind == 2:
        other = rng.choice(SAMPLES).payload
        payload[rng.randrange(len(payload)) :] = other[rng.randrange(len(other)) :]
    elif kind == 3:
        payload = bytearray(_with_something_strange(sample, rng))
    elif kind == 4:
        topic = "".join(rng.choice("/+#v3upeventé\udcff\x01") if rng.random() < 0.1 else c for c in topic)
    else:
        payload += bytes(rng.randrange(256) for _ in range(rng.randrange(1, 50)))
    return RawMessage(topic, bytes(payload), SystemClock().now())


def _with_something_strange(sample: Sample, rng: random.Random) -> bytes:
    try:
        body = json.loads(sample.payload)
    except ValueError:
        return sample.payload[: rng.randrange(len(sample.payload))]
    node = body
    while isinstance(node, dict | list) and node:
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
            node = node[key]
            continue
        node[key] = rng.choice(STRANGE)
        break
    return json.dumps(body).encode("utf-8", "surrogatepass")


def sound(number: int) -> RawMessage:
    body = {**UP.body, "deduplicationId": f"sound-{number}", "fCnt": number}
    return RawMessage(UP.topic, json.dumps(body).encode(), SystemClock().now())


async def test_mutated_messages_cost_nobody_anything(database_url: str, rng: random.Random) -> None:
    writer = BatchWriter(
        lambda: connect(database_url, application="fuzz"),
        writer="fuzz",
        codecs=load_codecs(),
        keep_messages=True,
    )
    batcher = Batcher(writer, batch_size=2000, max_message=262_144)
    told = 0
    for start in range(0, MUTATED, 10_000):
        waiting = []
        for number in range(start, start + 10_000):
            waiting.append(batcher.submit(mutated(rng.choice(SAMPLES), rng)))
            if number % EVERY == 0:
                waiting.append(batcher.submit(sound(number)))
        async with asyncio.timeout(120):
            await asyncio.gather(*waiting)
        told += len(waiting)
    assert told == MUTATED + MUTATED // EVERY
    assert await batcher.close(30)
    with psycopg.connect(database_url) as connection:
        counters = dict(connection.execute("SELECT id, f_cnt FROM uplink").fetchall())
        whole = Counter(counters[id] for id, told in kept_messages(connection).items() if b"sound-" in told)
        assert whole == dict.fromkeys(range(0, MUTATED, EVERY), 1)
        reasons = dict(connection.execute("SELECT reason, count(*) FROM reject GROUP BY reason").fetchall())
        assert reasons.get("adapter_failed", 0) == 0, reasons
        assert len(reasons) > 8, "the mutations reached too little"
