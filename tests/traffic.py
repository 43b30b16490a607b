"""Many realistic uplinks, and a publisher that waits for every acknowledgement."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import paho.mqtt.client as mqtt

from telemetry.mqtt import parse_mqtt_url
from tests.samples import samples

_UP = next(s for s in samples("chirpstack_v4") if s.name == "chirpstack_v4/up_full")


def uplinks(count: int, *, devices: int = 200, start: int = 0) -> Iterator[tuple[str, bytes]]:
    """(topic, payload) of ChirpStack v4 uplinks, each with an id of its own."""
    began = datetime.now(UTC) - timedelta(seconds=count)
    for number in range(start, start + count):
        eui = f"24e1{number % devices:012x}"
        body = {
            **_UP.body,
            "deduplicationId": str(UUID(int=number)),
            "time": (began + timedelta(seconds=number - start)).isoformat(),
            "deviceInfo": {**_UP.body["deviceInfo"], "devEui": eui},  # type: ignore[dict-item]
            "fCnt": number // devices,
            "rxInfo": [{k: v for k, v in rx.items() if k != "nsTime"} for rx in _UP.body["rxInfo"]],  # type: ignore[attr-defined]
        }
        yield _UP.topic.replace("24e124136b502217", eui), json.dumps(body).encode()


def publish(url: str, messages: Iterable[tuple[str, bytes]], *, in_flight: int = 500) -> int:
    """Publish at QoS 1 and return once the broker has acknowledged all; returns how many."""
    address = parse_mqtt_url(url)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.username_pw_set(address.username, address.password)
    client.max_inflight_messages_set(in_flight)
    room = threading.Semaphore(in_flight)
    client.on_publish = lambda *_: room.release()
    client.connect(address.host, address.port)
    client.loop_start()
    try:
        sent = 0
        for topic, payload in messages:
            assert room.acquire(timeout=30), "the broker stopped acknowledging"
            client.publish(topic, payload, qos=1)
            sent += 1
        for _ in range(in_flight):
            assert room.acquire(timeout=30), "the broker stopped acknowledging"
    finally:
        client.disconnect()
        client.loop_stop()
    return sent
