"""The command line. Exit status: 0 done, 1 failed, 2 wrong usage or settings."""

from __future__ import annotations

import sys

import psycopg
import typer
from rich.console import Console

from quantrac import __version__
from quantrac.commands import (
    accounts,
    backup,
    codecs,
    export,
    redecode,
    registry,
    rejects,
    rules,
    services,
    state,
    up,
)
from quantrac.commands import simulate as simulate_command
from telemetry.errors import QuantracError, SettingsError, UsageError
from telemetry.store.refusal import cure

app = typer.Typer(
    name="quantrac",
    help="LoRaWAN sensors to trustworthy time series and timely alerts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
up.add_to(app)
services.add_to(app)
state.add_to(app)
backup.add_to(app)
rejects.add_to(app)
registry.add_to(app)
export.add_to(app)
codecs.add_to(app)
redecode.add_to(app)
rules.add_to(app)
simulate_command.add_to(app)
accounts.add_to(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"quantrac {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _show: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and leave."
    ),
) -> None:
    """Quantrac: uplinks of LoRaWAN network servers become time series, and time series become alerts.

    Settings are environment variables QUANTRAC_… or `quantrac.toml`; see docs/reference/settings.md.
    """


def main() -> None:
    """Run a command; what goes wrong becomes one clear message on stderr."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app()
    except (SettingsError, UsageError) as error:
        console.print(f"quantrac: {error}", markup=False)
        sys.exit(2)
    except QuantracError as error:
        console.print(f"quantrac: {error}", markup=False)
        sys.exit(1)
    except psycopg.errors.UndefinedTable:
        console.print(
            "quantrac: the database has no Quantrac schema yet; run `quantrac migrate`.", markup=False
        )
        sys.exit(1)
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        console.print(
            f"quantrac: the database does not answer ({reason}). "
            + (
                cure(error)
                or "Is `quantrac up` running, and does QUANTRAC_DATABASE_URL name the right server?"
            ),
            markup=False,
        )
        sys.exit(1)
