"""`ingest`, `alert`, `deliver`, `api`: one service a process. SIGTERM drains."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Annotated

import structlog
import typer
import uvloop

from alerting.settings import AlertSettings
from ingest.settings import IngestSettings
from quantrac.commands.options import Data, ParentPipe
from quantrac.context import Context
from telemetry.clock import SystemClock
from telemetry.errors import SettingsError
from telemetry.observability import setup_logging
from telemetry.settings import StoreSettings, load, unknown_names

Service = Callable[[asyncio.Event], Awaitable[None]]


def add_to(app: typer.Typer) -> None:
    panel = "Services"
    app.command(rich_help_panel=panel)(ingest)
    app.command(rich_help_panel=panel)(alert)
    app.command(rich_help_panel=panel)(deliver)
    app.command(rich_help_panel=panel)(api)


def ingest(
    data: Data = None,
    leave: Annotated[
        bool,
        typer.Option(
            "--leave",
            help="Store what waits for QUANTRAC_MQTT_CLIENT_ID, unsubscribe, end its session, and exit. "
            "For an instance that goes for good, or that died.",
        ),
    ] = False,
    parent_pipe: ParentPipe = None,
) -> None:
    """Follow the broker and store what it brings. Acknowledges only what is committed."""
    from ingest.service import run

    context = Context(data)
    settings, store = context.ingest(), context.store()
    if leave:
        _leave(context, settings, store)
        return
    _serve("ingest", context, lambda stop: run(settings, store, SystemClock(), stop), parent_pipe)


def _leave(context: Context, settings: IngestSettings, store: StoreSettings) -> None:
    from ingest.leave import run

    stored = 0

    async def leave(stop: asyncio.Event) -> None:
        nonlocal stored
        stored = await run(settings, store, SystemClock(), stop)

    setup_logging(context.common, "ingest")
    asyncio.run(_run(leave, None))
    typer.echo(f"{settings.mqtt_client_id} left: {stored} messages that waited for it are stored")


def alert(data: Data = None, parent_pipe: ParentPipe = None) -> None:
    """Judge what is stored by the rules, raise alerts, and queue the messages that tell of them."""
    from alerting.service import run

    context = Context(data)
    settings, store = load(AlertSettings), context.store()
    _serve("alert", context, lambda stop: run(settings, store, SystemClock(), stop), parent_pipe)


def deliver(data: Data = None, parent_pipe: ParentPipe = None) -> None:
    """Send the queued webhooks, signed, in order per alert, until they arrive or their schedule ends."""
    from alerting.delivery.service import run
    from alerting.delivery.settings import DeliverySettings
    from telemetry.store.pool import async_pool, worker_limits

    context = Context(data)
    store, settings, box = context.store(), load(DeliverySettings), context.box()

    async def service(stop: asyncio.Event) -> None:
        async with async_pool(store, application="quantrac deliver", limits=worker_limits(store)) as pool:
            await run(pool, settings, SystemClock(), box, stop)

    _serve("deliver", context, service, parent_pipe)


def api(
    data: Data = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (QUANTRAC_API_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (QUANTRAC_API_PORT).")] = None,
    parent_pipe: ParentPipe = None,
) -> None:
    """Serve the REST API, the event stream and the web page."""
    from api.service import run
    from api.settings import ApiSettings

    context = Context(data)
    store, box = context.store(), context.box()
    settings = load(ApiSettings, overrides={"api_host": host, "api_port": port})
    if not settings.export_dir:
        settings = settings.model_copy(update={"export_dir": str(context.common.data_dir / "exports")})
    intake = load(IngestSettings)
    _serve(
        "api",
        context,
        lambda stop: run(settings, store, SystemClock(), box, stop, ingest=intake),
        parent_pipe,
    )


def _serve(name: str, context: Context, service: Service, parent_pipe: int | None) -> None:
    from quantrac.all_settings import ALL_SETTINGS

    setup_logging(context.common, name)
    log = structlog.get_logger()
    for sentence in unknown_names(ALL_SETTINGS):
        log.warning("unknown_setting", problem=sentence)
    listen = context.common.metrics_listen
    if listen and name != "api":
        from prometheus_client import start_http_server

        host, _, port = listen.rpartition(":")
        try:
            start_http_server(int(port), addr=host)
        except OSError as error:
            raise SettingsError(
                "QUANTRAC_METRICS_LISTEN",
                f"cannot listen on {listen} ({error.strerror})",
                "Give every service a port of its own.",
            ) from None
    # uvloop writes the acks of a batch together: one system call instead of thousands.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(service, parent_pipe))


async def _run(service: Service, parent_pipe: int | None) -> None:
    """Run until SIGTERM or SIGINT, or until the supervisor at the other end of the pipe is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent_pipe is not None:
        loop.add_reader(parent_pipe, stop.set)  # readable only at its end: nobody writes to it
    await service(stop)
