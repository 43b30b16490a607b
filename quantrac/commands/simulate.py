"""`simulate`: field sensors that are not there."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantrac.commands.options import Data, ParentPipe, Strict, speed_of
from quantrac.context import Context
from telemetry.clock import SystemClock
from telemetry.errors import UsageError
from telemetry.mqtt import parse_mqtt_url
from telemetry.observability import setup_logging

if TYPE_CHECKING:
    from rich.progress import Progress

    from simulators.run import Summary
    from simulators.scenario import Scenario


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="Simulation")(simulate)


def simulate(
    scenario: Annotated[
        str, typer.Argument(help="A scenario's name, such as la-nga-flood or calm-day, or its file.")
    ],
    seed: Annotated[int, typer.Option(help="The same seed gives the same world and messages.")] = 1,
    speed: Annotated[
        str | None, typer.Option(metavar="X|max", help="World seconds a second; else the scenario's own.")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="One network server for all devices: chirpstack-v4, chirpstack-v4.0, "
            "chirpstack-v4-protobuf, chirpstack-v3 or tts-v3.",
        ),
    ] = None,
    out: Annotated[str, typer.Option(metavar="mqtt|FILE", help="The broker, or a file of NDJSON.")] = "mqtt",
    start: Annotated[
        datetime | None, typer.Option(help="World time (UTC) of a file's first message.")
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            metavar="N",
            help="So many devices: its own, then copies at copied stations.",
        ),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on after the scenario's end, until stopped.")
    ] = False,
    with_registration: Annotated[
        bool, typer.Option("--register", help="First register its stations and devices, and apply its rules.")
    ] = False,
    history: Annotated[
        float,
        typer.Option(
            min=0, max=240, metavar="HOURS", help="First send the hours before, unless some are stored."
        ),
    ] = 0.0,
    answers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write when the levels are really passed, for `quantrac score`."),
    ] = None,
    score: Annotated[
        bool, typer.Option("--score", help="Wait until it all came through, and compare the alerts with it.")
    ] = False,
    strict: Strict = False,
    patience: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Before --score gives up, with nothing moving.")
    ] = 60.0,
    data: Data = None,
    parent_pipe: ParentPipe = None,
) -> None:
    """Play a scenario: its sensors send real payloads through a network server's messages.

    Everything it sends is marked simulated.
    """
    from rich.console import Console
    from rich.progress import Progress

    from quantrac.commands.rules import load_rules
    from quantrac.demo import has_readings, publish_history, register
    from quantrac.rehearsal import Rehearsal
    from quantrac.score_report import show
    from simulators.run import parse_format
    from simulators.scenario import load_scenario
    from simulators.sheet import read_answers

    if score and (out != "mqtt" or keep_going):
        raise UsageError("--score: alerting must hear the run to its end; leave out --out and --keep-going")
    if strict and not score:
        raise UsageError("--strict: it judges a score; add --score")
    context = Context(data)
    setup_logging(context.common, "simulate")
    loaded, fmt = load_scenario(scenario), parse_format(format_)
    if devices is not None:
        loaded = loaded.multiplied(devices)
    if with_registration:
        rules = load_rules(loaded.rules_path) if loaded.rules_path else []
        register(context.store().database_url, loaded.registrations(), rules)
    url = context.publisher_url() if out == "mqtt" else None
    if history and url is not None and not has_readings(context.store().database_url):
        asyncio.run(publish_history(loaded, history, parse_mqtt_url(url), SystemClock(), seed, fmt))
    quiet = parent_pipe is not None or not Console(stderr=True).is_terminal
    pace = None if speed is None else speed_of(speed)
    run = Rehearsal(loaded, flat_out=pace == "max", may_be_stored=start is not None) if score else None
    with TemporaryDirectory(prefix="quantrac-") as folder:
        file = answers or (Path(folder) / "answers.json" if run else None)
        with nullcontext() if quiet else Progress(console=Console(stderr=True), transient=True) as bar:
            summary = asyncio.run(
                _run(
                    loaded, seed=seed, speed=pace, fmt=format_, out=out, mqtt_url=url,
                    start=start and start.replace(tzinfo=UTC), keep_going=keep_going,
                    progress=_reporter(bar), answers=file, told=run and run.published,
                    parent_pipe=parent_pipe,
                )
            )  # fmt: skip
        if summary is None:
            return
        hours = summary.world_seconds / 3600
        typer.echo(f"{summary.messages:,} messages, {hours:.1f} hours of the world", err=True)
        if run and file:
            sheet = read_answers(file)
            found = asyncio.run(run.score(context.store().database_url, sheet, patience))
            show(sheet, found)
            if strict and not found.clean:
                raise typer.Exit(1)


async def _run(scenario: Scenario, *, parent_pipe: int | None, **options: Any) -> Summary | None:
    from simulators.run import simulate as run

    playing = asyncio.create_task(run(scenario, **options), name="simulate")
    if parent_pipe is not None:
        asyncio.get_running_loop().add_reader(parent_pipe, playing.cancel)
    try:
        return await playing
    except asyncio.CancelledError:
        return None


def _reporter(bar: Progress | None) -> Any:
    if bar is None:
        return None
    task = bar.add_task("simulating", total=1.0)

    def report(done: float, *_: Any) -> None:
        bar.update(task, completed=done)

    return report
