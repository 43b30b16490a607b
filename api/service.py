"""The API as a service: listens, drains when told to stop, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import structlog
import uvicorn
from fastapi import FastAPI

from ingest.settings import IngestSettings
from telemetry.clock import Clock
from telemetry.errors import SettingsError
from telemetry.secrets import SecretBox
from telemetry.settings import StoreSettings

from .app import create_app
from .settings import ApiSettings

# A container is killed after ten seconds.
DRAIN_SECONDS = 8

_log = structlog.get_logger("api")


async def run(
    settings: ApiSettings,
    store: StoreSettings,
    clock: Clock,
    box: SecretBox,
    stop: asyncio.Event,
    *,
    ingest: IngestSettings | None = None,
    on_listening: Callable[[int], None] | None = None,
) -> None:
    """Serve until `stop` is set, answer what is under way, and return.

    `ingest` says how messages that come by HTTP are stored, by default as everywhere.
    `on_listening` is called with the port as soon as connections are accepted.

    Raises:
        SettingsError: the address is taken or not ours, or the database's address cannot be used.
    """
    with _listen(settings.api_host, settings.api_port) as listener:
        port = int(listener.getsockname()[1])
        instance = f"{socket.gethostname()}-{port}"
        app = create_app(settings, store, box, clock=clock, ingest=ingest, instance=instance)
        server = _Server(app)
        stopping = asyncio.create_task(_stop(server, stop), name="api-stop")
        if on_listening is not None:
            on_listening(port)
        _log.info("api_listening", host=settings.api_host, port=port)
        try:
            await server.serve([listener])
        finally:
            stopping.cancel()
    _log.info("api_stopped")


async def _stop(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True


class _Server(uvicorn.Server):
    """Ends the live streams as soon as it is told to stop: they would never end by themselves."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._hub = app.state.services.hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hub.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to whoever sets `stop`."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SettingsError(
            "QUANTRAC_API_HOST",
            f"{host} is no address ({error.strerror})",
            "Write 127.0.0.1, or 0.0.0.0 for every network of this machine.",
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise SettingsError(
            "QUANTRAC_API_PORT",
            f"cannot listen on {host}:{port} ({error.strerror})",
            "Stop what uses it, or choose another port.",
        ) from None
    listener.setblocking(False)
    return listener
