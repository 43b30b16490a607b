"""`score`: what was raised during a simulation against what was so; docs/how-to/simulate.md."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from quantrac.commands.options import AsJson, Data
from quantrac.context import Context

_HEADS = ("rule", "level", "detected", "missed", "false", "lingering", "delay", "worst", "told", "worst")


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="Simulation")(score)


def score(
    answers: Annotated[Path, typer.Argument(help="What `quantrac simulate --answers` wrote.")],
    since: Annotated[
        datetime | None, typer.Option(help="Only what alerts did at this time (UTC) or later.")
    ] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Compare the alerts in the store with a simulation's answer sheet, for each rule and level.

    Delays are seconds, the median and the worst: from the passing of the level to the reading that proved it,
    and to the moment the alert was known.
    """
    from quantrac.scoring import score_store
    from simulators.answers import read_answers

    sheet = read_answers(answers)
    at = since and since.replace(tzinfo=UTC)
    tallies = asyncio.run(score_store(Context(data).store().database_url, sheet, at))
    rows = [tally.summary() for tally in tallies]
    if as_json:
        false = [[at.isoformat() for at in tally.false_at] for tally in tallies]
        found = [{**row, "false_at": times} for row, times in zip(rows, false, strict=True)]
        typer.echo(json.dumps({"scenario": sheet.scenario, "seed": sheet.seed, "scores": found}, indent=1))
        return
    if not rows:
        typer.echo(
            "no rule has a level that the sheet tells of; `quantrac rules apply` and register its devices"
        )
        return
    lines = [_HEADS, *(tuple(map(_cell, row.values())) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join((first.strip().ljust(widths[0]), *others)))


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:,.0f}" if isinstance(value, float) else str(value)
