"""`rules`: what raises alerts."""

from __future__ import annotations

from pathlib import Path

import typer

from alerting.rules import Rule, read_rules
from quantrac.commands.options import Data
from quantrac.context import Context
from telemetry.errors import UsageError
from telemetry.store.master import save_rule
from telemetry.store.pool import connect


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
    rules = load_rules(file)
    with connect(Context(data).store().database_url, application="quantrac rules") as connection:
        changed = [r.id for r in rules if save_rule(connection.cursor(), r.to_dict(), "command line")]
    typer.echo(f"{len(changed)} of {len(rules)} rules changed{': ' + ', '.join(changed) if changed else ''}")


def load_rules(file: Path) -> list[Rule]:
    """The rules of a file; raises `UsageError` with the file's name before each fault."""
    try:
        return read_rules(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}") from None
    except UsageError as error:
        raise UsageError("\n".join(f"{file}: {line}" for line in str(error).splitlines())) from None
