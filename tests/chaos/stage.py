"""Broker, database, proxies, the ingest process and a network server, and what must hold in the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path

from quantrac.embedded.ports import keep_port
from tests.program import Program
from tests.traffic import publish
from tests.wait import until

from .broker import Broker, Session
from .database import Database
from .gate import Gate
from .proxy import FaultyProxy
from .traffic import DEVICES, READINGS, Frame, Message, frames, paced

CLIENT_ID = "chaos-ingest"
_STREAM = 10_000_000  # more than any test publishes
# What was put aside while the database refused it waits, and is stored by itself in the end.
_STAYS = "WHERE state = 'open'"


class Stage:
    """One test's world. Every uplink published is remembered, and accounted for by `assert_survived`."""

    def __init__(self, folder: Path, broker: Broker, database: Database) -> None:
        self.folder = folder
        self.broker = broker
        self.database = database
        self.published: dict[Frame, bytes] = {}
        self.lost: set[Frame] = set()
        self._next = 0
        self._numbering = threading.Lock()
        self._program: Program | None = None
        self._metrics = keep_port(folder / "metrics-port", "127.0.0.1")
        self._stack = AsyncExitStack()

    # ------------------------------------------------------------ the process

    def spawn(self, **environment: str) -> Program:
        """Start `quantrac ingest`, without waiting for anything."""
        assert self._program is None or self._program.status is not None, "one runs already"
        self._program = Program(
            "ingest",
            env={
                "QUANTRAC_DATABASE_URL": self.database.url,
                "QUANTRAC_MQTT_URL": self.broker.info.urls["ingest"],
                "QUANTRAC_MQTT_CLIENT_ID": CLIENT_ID,
                "QUANTRAC_METRICS_LISTEN": f"127.0.0.1:{self._metrics}",
                **environment,
            },
        )
        return self._program

    async def start(self, **environment: str) -> Program:
        """Start `quantrac ingest` and wait until the broker keeps for it what is published."""
        program = self.spawn(**environment)
        await self.connected()
        return program

    async def awake(self) -> None:
        """Wait until a process just spawned answers at all."""
        await until(lambda: self._metric("process_start_time_seconds"), 60)

    @property
    def program(self) -> Program:
        assert self._program is not None
        return self._program

    async def connected(self, wanted: bool = True) -> None:
        """Wait until the process says it is subscribed, or that it is not."""
        await until(lambda: self._metric("quantrac_ingest_connected") == float(wanted), 60)

    def received(self) -> int:
        """How many messages reached the process."""
        return int(self._metric("quantrac_ingest_received_total") or 0)

    def duplicates(self) -> int:
        """How many of them it found to be stored already."""
        return int(self._metric("quantrac_ingest_duplicates_total") or 0)

    def _metric(self, name: str) -> float | None:
        """The sum over its labels; None while the process does not answer."""
        assert self.program.status is None, f"ingest ended:\n{self.program.output}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return None
        found = [
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        ]
        return sum(found) if found else None

    # ------------------------------------------------------------ what stands between

    async def broker_proxy(self) -> FaultyProxy:
        """A proxy before the broker; the URL for ingest is `broker.through(proxy.port)`."""
        return await self._proxy(self.broker.info.port)

    async def database_proxy(self) -> FaultyProxy:
        """A proxy before the database; the URL for ingest is `database.through(proxy.port)`."""
        return await self._proxy(self.database.port)

    async def _proxy(self, port: int) -> FaultyProxy:
        proxy = FaultyProxy("127.0.0.1", port)
        await self._stack.enter_async_context(proxy)
        return proxy

    def gate(self) -> Gate:
        """Hold every COMMIT from now on."""
        gate = Gate(self.database)
        self._stack.callback(gate.open)
        return gate

    # ------------------------------------------------------------ the network server

    async def publish(self, count: int, *, rate: float = 0.0) -> set[Frame]:
        """New uplinks, all of them acknowledged by the broker on return."""
        return await self.send(self.make(count), rate=rate)

    def make(self, count: int, *, devices: int = DEVICES) -> list[Message]:
        """New uplinks, not yet published; with `devices=1` they are all of one."""
        if devices == 1:
            return list(frames(_STREAM, count, devices=1))
        with self._numbering:
            first, self._next = self._next, self._next + count
        return list(frames(first, count))

    async def send(self, messages: Iterable[Message], *, rate: float = 0.0) -> set[Frame]:
        """Publish these at QoS 1; they count as kept by the broker."""
        sent: set[Frame] = set()
        await asyncio.to_thread(self._publish, messages, rate, sent)
        return sent

    @asynccontextmanager
    async def streaming(self, rate: float) -> AsyncIterator[None]:
        """New uplinks in the background, `rate` a second, until the block ends."""
        enough = threading.Event()

        def endless() -> Iterator[Message]:
            while not enough.is_set():
                yield from self.make(1)

        task = asyncio.create_task(self.send(endless(), rate=rate))
        try:
            yield
        finally:
            enough.set()
            await task

    def _publish(self, messages: Iterable[Message], rate: float, sent: set[Frame]) -> None:
        def noted() -> Iterator[tuple[str, bytes]]:
            for frame, topic, payload in paced(messages, rate) if rate else messages:
                if frame is not None:
                    self.published[frame] = payload
                    sent.add(frame)
                yield topic, payload

        publish(self.broker.info.urls["network"], noted())

    # ------------------------------------------------------------ what must hold

    async def reaches(self, stored: int, seconds: float = 60.0) -> None:
        """Wait until so many uplinks are stored."""
        await until(lambda: self.database.stored() >= stored, seconds)

    async def kept(self) -> list[bytes]:
        """What the broker holds for ingest, which must be away. Nothing of it is acknowledged here."""
        async with Session(self.broker.info.urls["ingest"], CLIENT_ID) as session:
            assert session.present, "the broker has forgotten ingest's session"
            # What is held comes before what is published now.
            [marker] = await self.publish(1)
            await until(lambda: self.published[marker] in session.received)
        return [payload for payload in session.received if payload != self.published[marker]]

    async def assert_survived(self, *, seconds: float = 60.0) -> None:
        """The process goes on by itself; every uplink is stored once or a reject; every one was acked."""
        await self.publish(20)
        await self.assert_all_stored(seconds=seconds)
        assert self.program.status is None, f"ingest ended:\n{self.program.output}"
        assert await asyncio.to_thread(self.program.stop) == 0, self.program.output
        assert await self.kept() == [], "stored, but never acknowledged"

    async def assert_all_stored(self, *, seconds: float = 60.0) -> None:
        """Of every uplink published there is one row with its readings, or one reject; nothing else."""
        wanted = self.published.keys() - self.lost
        with contextlib.suppress(AssertionError):  # what is missing is told below
            await until(lambda: self._accounted() >= len(wanted), seconds)
        found = self._rows()
        rows = [Frame(eui, f_cnt) for eui, f_cnt, _, _ in found]
        strange = set(rows) - wanted
        assert not strange, f"{len(strange)} stored that were lost or never published: {sorted(strange)[:5]}"
        twice = [frame for frame, group in itertools.groupby(sorted(rows)) if len(list(group)) > 1]
        assert not twice, f"{len(twice)} stored twice: {twice[:5]}"
        rejected = {bytes(row[0]) for row in self.database.ask(f"SELECT message FROM reject {_STAYS}")}
        missing = [f for f in wanted - set(rows) if self.published[f] not in rejected]
        assert not missing, f"{len(missing)} missing: {sorted(missing)[:5]}"
        both = [frame for frame in rows if self.published[frame] in rejected]
        assert not both, f"{len(both)} stored and rejected: {both[:5]}"
        wrong = [row for row in found if row[2:] != (READINGS, READINGS)]
        assert not wrong, f"{len(wrong)} without their {READINGS} readings: {wrong[:5]}"
        self._assert_lanes()

    async def assert_told_as_lost(self, began: datetime, ended: datetime) -> None:
        """Our own log says that the broker forgot us, and that the span is not whole."""
        await until(
            lambda: self.database.ask(
                "SELECT 1 FROM ingest_gap WHERE client_id = %s AND why = 'session'"
                " AND began_at <= %s AND ended_at >= %s",
                CLIENT_ID,
                began,
                ended,
            )
        )

    def _accounted(self) -> int:
        return self.database.number(
            "SELECT (SELECT count(*) FROM uplink JOIN device ON device.id = device_id"
            " WHERE dev_eui LIKE '24e1%%')"
            f" + (SELECT count(*) FROM reject {_STAYS} AND dev_eui LIKE '24e1%%')"
        )

    def _rows(self) -> list[tuple[str, int, int, int]]:
        """(device, f_cnt, readings, different readings) of every stored uplink of the registered devices."""
        return self.database.ask(
            "SELECT dev_eui, f_cnt, coalesce(n, 0), coalesce(d, 0) FROM uplink"
            " JOIN device ON device.id = device_id"
            " LEFT JOIN (SELECT uplink_id, count(*) AS n, count(DISTINCT (metric_id, channel)) AS d"
            "            FROM reading GROUP BY uplink_id) r ON uplink_id = uplink.id"
            " WHERE dev_eui LIKE '24e1%%'"
        )

    def _assert_lanes(self) -> None:
        """Whoever follows the store is told of as much as is in it, and no reading is without its uplink."""
        [(told_uplinks, told_readings)] = self.database.ask("SELECT sum(uplinks), sum(readings) FROM lane")
        readings = self.database.number("SELECT count(*) FROM reading")
        assert (told_uplinks, told_readings) == (self.database.stored(), readings)
        assert not self.database.number(
            "SELECT count(*) FROM reading WHERE NOT EXISTS (SELECT FROM uplink WHERE id = uplink_id)"
        )

    async def close(self) -> None:
        await self._stack.aclose()
        if self._program is not None and self._program.status is None:
            await asyncio.to_thread(self._program.kill)
