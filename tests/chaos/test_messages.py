"""The messages themselves are bad, or far too many."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.kept import kept_messages
from tests.samples import samples
from tests.wait import until

from . import codec
from .stage import Stage
from .traffic import Message

pytestmark = pytest.mark.chaos
_UP = next(s for s in samples("chirpstack_v4") if s.name == "chirpstack_v4/up_full")
_POISONED = "badc0de000000000"
_REFUSED = 4_000_000_666
_TOPIC = f"application/1/device/{_POISONED}/event/up"
Raw = tuple[str, bytes]


def up(number: int, *, text: tuple[str, str] = ("", ""), **changes: Any) -> Raw:
    """An uplink of the poisoned device with these fields, and a piece of its JSON replaced."""
    info = {**_UP.body["deviceInfo"], "devEui": _POISONED}  # type: ignore[dict-item]
    body = {**_UP.body, "deviceInfo": info, "deduplicationId": f"poison-{number}", "fPort": 99, **changes}
    return _TOPIC, json.dumps(body).replace(*text).encode() if text[0] else json.dumps(body).encode()


def poisons(batch: int) -> list[Raw]:
    """One of each kind; those of different batches are different messages."""
    number = itertools.count(batch * 1000)
    mark = str(batch).encode()
    huge = '"rssi": -71', '"rssi": -1e39'
    name: dict[str, Any] = {**_UP.body["deviceInfo"], "devEui": _POISONED}  # type: ignore[dict-item]
    return [
        (_TOPIC, b"{" + mark),
        (_TOPIC, b"\x00\xff\xfe" + mark),
        (_TOPIC, b"[" * 50_000 + mark),
        (_TOPIC, _UP.payload[: 300 + batch]),
        (_TOPIC, b"x" * 300_000 + mark),
        (f"application/1/device/{_POISONED}/event/{batch}", b""),
        (f"v3/a{batch}@t/devices/d/up", b'{"end_device_ids": {"device_id": 5}, "uplink_message": []}'),
        (f"v3/a{batch}@t/devices/d/join", b'{"end_device_ids": {}, "join_accept": "\\u0000\\ud800"}'),
        up(next(number), deviceInfo={**name, "deviceName": "a\x00b", "applicationName": "\ud800"}),
        up(next(number), devAddr="\x00\x00"),
        up(next(number), object={"a\x00": ["\x00", "\ud800"]}),
        up(next(number), fCnt=2**32),
        up(next(number), fCnt=10**30),
        up(next(number), fCnt=_REFUSED),
        up(next(number), fPort=-1),
        up(next(number), time="9999-12-31T23:59:59-12:00"),
        up(next(number), time="0000-00-00T00:00:00Z"),
        up(next(number), time="1969-12-31T23:59:59.999999999Z"),
        up(next(number), data="*" * 1000),
        up(next(number), data="A" * 8000),
        up(next(number), text=huge),
        up(next(number), text=('"rssi": -71', '"rssi": -1e999')),
        up(next(number), text=('"snr": 12', '"snr": 1e-300')),
        up(next(number), txInfo={"frequency": 2**63}),
        *(up(next(number), fPort=port) for port in codec.PORTS),
    ]


@pytest.mark.parametrize("batch_size", [20, 2000], ids=["small batches", "large batches"])
async def test_a_poison_in_every_batch(stage: Stage, tmp_path: Path, batch_size: int) -> None:
    stage.database.ask(f"ALTER TABLE uplink ADD CONSTRAINT refused CHECK (f_cnt <> {_REFUSED})")
    stage.database.ask(
        "INSERT INTO device_type (id, vendor, model, codec, expected_interval, mapping)"
        " VALUES ('chaos', 'v', 'm', 'chaos', 60, %s)",
        Jsonb([{"field": "x", "metric": "water.level"}]),
    )
    stage.database.ask(
        "INSERT INTO device (dev_eui, status, device_type) VALUES (%s, 'active', 'chaos')", _POISONED
    )
    path = os.pathsep.join([codec.install(tmp_path / "plugin"), os.environ.get("PYTHONPATH", "")])
    await stage.start(PYTHONPATH=path, QUANTRAC_BATCH_SIZE=str(batch_size))
    bad = [message for batch in range(4) for message in poisons(batch)]
    # Ten good ones after each, so that any twenty hold one.
    await stage.send(m for topic, payload in bad for m in (Message(None, topic, payload), *stage.make(10)))
    await stage.assert_survived()
    with stage.database.connect() as connection:
        topics = dict(connection.execute("SELECT id, topic FROM uplink").fetchall())
        kept = Counter((topics[id], message) for id, message in kept_messages(connection).items())
    for topic, payload in bad:
        found = kept[topic, payload] + stage.database.number(
            "SELECT (SELECT count(*) FROM event WHERE message = %s AND topic = %s)"
            " + (SELECT count(*) FROM reject WHERE message = %s AND topic = %s)",
            *(payload, topic) * 2,
        )
        assert found == 1, (found, topic, payload[:200])


async def test_a_device_that_sends_a_thousand_messages_a_second(stage: Stage) -> None:
    """Of 30 messages of others, sent one after another meanwhile, each is stored before ten seconds pass."""
    await stage.start()
    noise = asyncio.create_task(stage.send(stage.make(12_000, devices=1), rate=1000))
    await stage.reaches(1000)
    for _ in range(30):
        assert not noise.done(), "the noise ended before the test did"
        [frame] = await stage.publish(1)
        await until(
            lambda: stage.database.ask(
                "SELECT 1 FROM uplink JOIN device ON device.id = device_id WHERE dev_eui = %s AND f_cnt = %s",
                *frame,  # noqa: B023
            ),
            10,
        )
    await noise
    await stage.assert_survived()
