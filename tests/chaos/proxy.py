"""A TCP proxy that is also slow, or swallows what a server answers."""

from __future__ import annotations

import asyncio
import contextlib

from tests.proxy import TcpProxy


class FaultyProxy(TcpProxy):
    """`delay` seconds pass before each chunk of either direction is handed on."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.delay = 0.0
        self._deaf = False

    def mute_downstream(self) -> None:
        """Swallow what the server sends from now on; what clients send still arrives."""
        self._deaf = True

    def mend(self) -> None:
        super().mend()
        self._deaf = False

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, upstream: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await asyncio.sleep(self.delay)
                if not (self._muted if upstream else self._deaf):
                    sink.write(data)
                    await sink.drain()
        sink.close()
        self._writers.discard(sink)
