"""`rules`: what raises alerts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from alerting.rules import Rule, read_rules
from quantrac.commands.options import Data
from quantrac.context import Context
from quantrac.tables import read_text
from telemetry.errors import UsageError
from telemetry.observability import setup_logging
from telemetry.store.master import save_rule
from telemetry.store.pool import connect

_NONE = {
    False: "no active device that it chooses gives {metric}",
    True: "no active device that it chooses gives {metric} at a station with thresholds for it "
    "in the rule's direction",
}


def add_to(app: typer.Typer) -> None:
    rules = typer.Typer(
        no_args_is_help=True, help="What raises alerts; docs/how-to/rules.md tells the format."
    )
    rules.command("check")(check)
    rules.command("apply")(apply)
    app.add_typer(rules, name="rules", rich_help_panel="Alerting")


def check(file: Path) -> None:
    """Read a rules file and say what is wrong with it, line by line. Touches nothing."""
    rules = load_rules(file)
    typer.echo(f"{file}: {len(rules)} rule{'s' if len(rules) != 1 else ''}, no fault")


def apply(file: Path, data: Data = None) -> None:
    """Add the rules of a file, or replace those with the same id; all or none."""
    from quantrac.reach import series_of_rules, unknown_names

    rules = load_rules(file)
    context = Context(data)
    setup_logging(context.common, "rules")
    url = context.store().database_url
    with connect(url, application="quantrac rules") as connection:
        changed = [r.id for r in rules if save_rule(connection.cursor(), r.to_dict(), "command line")]
    typer.echo(f"{len(changed)} of {len(rules)} rules changed{': ' + ', '.join(changed) if changed else ''}")
    warnings = asyncio.run(unknown_names(url, rules))
    chosen = asyncio.run(series_of_rules(url))
    for rule in rules:
        number = chosen.get(rule.id, 0)
        if rule.enabled:
            typer.echo(f"{rule.id}: {number} series chosen now")
        if rule.enabled and not number:
            warnings.append(f"{rule.id}: {_NONE[rule.levels is None].format(metric=rule.metric)}")
    for sentence in warnings:
        typer.echo(f"quantrac: warning: {sentence}", err=True)


def load_rules(file: Path) -> list[Rule]:
    """The rules of a file; raises `UsageError` with the file's name before each fault."""
    text = read_text(file)
    try:
        return read_rules(text)
    except UsageError as error:
        raise UsageError("\n".join(f"{file}: {line}" for line in str(error).splitlines())) from None
