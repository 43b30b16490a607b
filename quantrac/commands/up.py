"""`up`: everything on this machine."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from quantrac.commands.options import Data
from quantrac.context import Context
from telemetry.errors import UsageError
from telemetry.observability import setup_logging


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="Services")(up)


def up(
    demo: Annotated[bool, typer.Option("--demo", help="Play a flood with simulated sensors.")] = False,
    scenario: Annotated[
        str, typer.Argument(help="What --demo plays; la-nga-flood when not given.", show_default=False)
    ] = "",
    data: Data = None,
    host: Annotated[
        str | None, typer.Option(help="Address of the page and the API; 127.0.0.1 when not given.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of the page and the API; 8000 when not given.")
    ] = None,
) -> None:
    """Run everything on this machine: database, broker, all services, and with --demo a simulated flood.

    The embedded database and broker stand in for those that QUANTRAC_DATABASE_URL and QUANTRAC_MQTT_URL
    name. Ctrl-C stops in order and loses nothing.
    """
    context = Context(data)
    setup_logging(context.common, "up")
    from quantrac.embedded import DataDirLock
    from quantrac.up import Options, run

    if scenario and not demo:
        raise UsageError(f"a scenario is played with --demo: quantrac up --demo {scenario}")
    playing = (scenario or "la-nga-flood") if demo else None
    with DataDirLock(context.common.data_dir):
        asyncio.run(run(context, Options(scenario=playing, host=host, port=port)))
