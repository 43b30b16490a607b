"""An adapter of another distribution that misbehaves costs the message it misbehaves with, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from importlib.metadata import EntryPoint
from typing import Any

import msgspec
import psycopg
import pytest

from ingest import adapters
from ingest.adapters.plugins import load_adapters
from ingest.batcher import Batcher
from ingest.pipeline import parse
from ingest.transaction import BatchWriter
from telemetry.errors import BadMessage
from telemetry.model import Event, RawMessage, Reject, Uplink, UplinkFlag, message_key
from telemetry.store.pool import connect

from .store import EUI, NOW, registry, up

Database = psycopg.Connection[dict[str, Any]]


class _Mute(Exception):
    def __str__(self) -> str:
        raise AttributeError("code")


def _uplink(message: RawMessage, **wrong: Any) -> Uplink:
    sound = Uplink(
        dedup_key=message_key(message), dev_eui=EUI, network="foreign", payload=b"\1", time=NOW, f_port=1
    )
    return msgspec.structs.replace(sound, **wrong)


def _event(message: RawMessage, **wrong: Any) -> Event:
    sound = Event(dedup_key=message_key(message), kind="join", network="foreign", time=NOW, dev_eui=EUI)
    return msgspec.structs.replace(sound, **wrong)


def _raises(error: BaseException) -> Any:
    raise error


FAULTS: dict[str, tuple[Callable[[RawMessage], Any], str]] = {
    "nothing": (lambda _: None, "gave a NoneType"),
    "reject": (lambda m: Reject(key=message_key(m), reason="x", detail=""), "gave a Reject"),
    "exits": (lambda _: _raises(SystemExit(3)), "SystemExit: 3"),
    "at the door": (lambda _: None, "SystemExit: 4"),
    "raises": (lambda _: _raises(ZeroDivisionError("x")), "ZeroDivisionError: x"),
    "mute": (lambda _: _raises(_Mute()), "_Mute: says nothing"),
    "reason": (lambda _: _raises(BadMessage(["x"], "y")), "reason or field is no text"),  # type: ignore[arg-type]
    "field": (lambda _: _raises(BadMessage("x", "y", field=3)), "reason or field is no text"),  # type: ignore[arg-type]
    "unhashable key": (lambda m: _uplink(m, dedup_key=[1]), "Expected `bytes`"),
    "text as key": (lambda m: _uplink(m, dedup_key="A" * 24), "Expected `bytes`"),
    "short key": (lambda m: _uplink(m, dedup_key=b"x"), "1 bytes instead of 16"),
    "eui": (lambda m: _uplink(m, dev_eui=EUI.upper()), "dev_eui is not 16 digits"),
    "no eui": (lambda m: _uplink(m, dev_eui=None), "Expected `str`"),
    "network": (lambda m: _uplink(m, network="a\0"), "network cannot be stored"),
    "time": (lambda m: _uplink(m, time=date(2026, 1, 1)), "`$.time`"),
    "counter": (lambda m: _uplink(m, f_cnt=1.5), "`$.f_cnt`"),
    "kind": (lambda m: _event(m, kind=7), "`$.kind`"),
    "data": (lambda m: _event(m, data={1: 2}), "`$.data`"),
}


class _Foreign:
    name = "foreign"

    def matches(self, topic: str, payload: bytes) -> bool:
        if topic == "foreign/at the door":
            raise SystemExit(4)
        return topic.startswith("foreign/")

    def parse(self, message: RawMessage) -> Any:
        what = message.topic.removeprefix("foreign/")
        if what in FAULTS:
            return FAULTS[what][0](message)
        if what == "refused":
            raise BadMessage("old_firmware", "update it\0", field="fw\0")
        if what == "close enough":
            return _uplink(message, flags=UplinkFlag.CONFIRMED, battery=5)
        return _uplink(message)


ADAPTER = _Foreign()


@pytest.fixture(autouse=True)
def _foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint(name="foreign", value=f"{__name__}:ADAPTER", group="quantrac.adapters")
    found = load_adapters((), [entry])
    assert found.problems == ()
    monkeypatch.setattr(adapters, "_in_use", (*adapters.ADAPTERS, *found.adapters))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_told(fault: str) -> None:
    outcome = parse(RawMessage(f"foreign/{fault}", b"", NOW), 1000)
    assert isinstance(outcome, Reject)
    assert outcome.reason == "adapter_failed"
    assert FAULTS[fault][1] in outcome.detail


def test_what_is_right_stays() -> None:
    message = RawMessage("foreign/good", b"", NOW)
    assert parse(message, 1000) == _uplink(message)
    message = RawMessage("foreign/close enough", b"", NOW)
    assert parse(message, 1000) == _uplink(message, flags=UplinkFlag.CONFIRMED, battery=5.0)


def test_what_it_refuses_is_told_in_its_words() -> None:
    outcome = parse(RawMessage("foreign/refused", b"", NOW), 1000)
    assert isinstance(outcome, Reject)
    assert (outcome.reason, outcome.detail, outcome.field) == ("old_firmware", "update it", "fw")


async def test_every_other_message_is_stored(database: Database, database_url: str) -> None:
    writer = BatchWriter(
        lambda: connect(database_url, application="test"),
        writer="test",
        codecs=registry(),
        keep_messages=True,
    )
    gathers = Batcher(writer, batch_size=7, max_message=262_144)
    messages = []
    for n, fault in enumerate(FAULTS):
        messages += [up(str(n), fCnt=n), RawMessage(f"foreign/{fault}", b"", NOW)]
    messages.append(RawMessage("foreign/good", b"", NOW))
    async with asyncio.timeout(30):
        await asyncio.gather(*map(gathers.submit, messages))
    assert await gathers.close(10)
    assert database.execute("SELECT count(*) AS n FROM uplink").fetchone() == {"n": len(FAULTS) + 1}
    rejects = database.execute("SELECT topic FROM reject WHERE reason = 'adapter_failed'").fetchall()
    assert {row["topic"] for row in rejects} == {f"foreign/{fault}" for fault in FAULTS}
