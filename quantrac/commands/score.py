"""`score`: what was raised during a simulation against what was so; docs/how-to/simulate.md."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from quantrac.commands.options import AsJson, Data, Strict
from quantrac.context import Context


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="Simulation")(score)


def score(
    answers: Annotated[Path, typer.Argument(help="What `quantrac simulate --answers` wrote.")],
    since: Annotated[
        datetime | None, typer.Option(help="Only what alerts did at this time (UTC) or later.")
    ] = None,
    strict: Strict = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Compare the alerts in the store with a simulation's answer sheet, for each rule and level.

    Delays are seconds, the median and the worst: from the passing of the level to the reading that proved it,
    and to the moment the alert was known. Then each hazard: what was raised at its station, in its time.
    """
    from quantrac.score_report import show
    from quantrac.scoring import score_store
    from simulators.sheet import read_answers

    sheet = read_answers(answers)
    at = since and since.replace(tzinfo=UTC)
    found = asyncio.run(score_store(Context(data).store().database_url, sheet, at))
    show(sheet, found, as_json=as_json)
    if strict and not found.clean:
        raise typer.Exit(1)
