"""Uplinks with numbers of their own, paced, and what the devices that send them are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from tests.traffic import uplinks

DEVICES = 200
READINGS = 2
"""Of every uplink: the devices' type maps two of the fields."""


class Frame(NamedTuple):
    """What tells one uplink from every other."""

    dev_eui: str
    f_cnt: int


class Message(NamedTuple):
    """What is published; `frame` is None for what must not become an uplink of the registered devices."""

    frame: Frame | None
    topic: str
    payload: bytes


def frames(first: int, count: int, *, devices: int = DEVICES) -> Iterator[Message]:
    for topic, payload in uplinks(count, devices=devices, start=first):
        body = json.loads(payload)
        yield Message(Frame(body["deviceInfo"]["devEui"], body["fCnt"]), topic, payload)


def paced(messages: Iterable[Message], rate: float) -> Iterator[Message]:
    """The same, at most `rate` a second."""
    began = time.monotonic()
    for number, message in enumerate(messages):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        yield message


def register_devices(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "INSERT INTO device_type (id, vendor, model, codec, expected_interval, mapping)"
        " VALUES ('em300', 'Milesight', 'EM300-MLD', 'milesight-em300', 600, %s)",
        (Jsonb([{"field": "temperature", "metric": "air.temperature"},
                {"field": "humidity", "metric": "air.humidity"}]),),
    )  # fmt: skip
    euis = sorted({message.frame.dev_eui for message in frames(0, DEVICES) if message.frame})
    connection.execute(
        "INSERT INTO device (dev_eui, status, device_type)"
        " SELECT eui, 'active', 'em300' FROM unnest(%s::text[]) eui",
        (euis,),
    )
