"""The program's start: it imports the module of the command that is asked for, and no other's.

Exit status: 0 done, 1 failed, 2 wrong usage or settings.
"""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from quantrac import __version__
from telemetry.errors import QuantracError, SettingsError, UsageError

# What all commands import together takes a second of a small machine.
MODULES = {
    "up": ("up",),
    "services": ("ingest", "alert", "deliver", "api"),
    "state": ("migrate", "status", "doctor"),
    "backup": ("backup", "restore"),
    "rejects": ("rejects",),
    "registry": ("stations", "devices", "gateways", "owners", "facilities", "units"),
    "export": ("export",),
    "codecs": ("codecs", "decode"),
    "redecode": ("redecode",),
    "rules": ("rules",),
    "simulate": ("simulate",),
    "recording": ("record", "replay", "anonymise"),
    "accounts": ("user", "key"),
    "score": ("score",),
    "purge": ("purge",),
}
"""Module of quantrac.commands → the commands it has, in the order in which help names them."""


def application(asked: str | None = None) -> typer.Typer:
    """The command line with the module that has the command `asked`; with all of them when none has it."""
    app = typer.Typer(
        name="quantrac",
        help="LoRaWAN sensors to trustworthy time series and timely alerts.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for module in [name for name, commands in MODULES.items() if asked in commands] or MODULES:
        import_module(f"quantrac.commands.{module}").add_to(app)
    return app


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"quantrac {__version__}")
        raise typer.Exit


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
    try:
        application(next((word for word in sys.argv[1:] if not word.startswith("-")), None))()
    except QuantracError as error:
        _end(str(error), 2 if isinstance(error, SettingsError | UsageError) else 1)
    except Exception as error:
        message = _of_the_database(error)
        if message is None:
            raise
        _end(message, 1)


def _of_the_database(error: Exception) -> str | None:
    """What is said of an error of psycopg, which many commands import and some do not."""
    import psycopg

    from telemetry.store.refusal import cure

    if isinstance(error, psycopg.errors.UndefinedTable):
        return "the database has no Quantrac schema yet; run `quantrac migrate`."
    text = " ".join(str(error).split())
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return f"somebody holds what this needs ({text}); try again when a backup or another job has ended."
    if isinstance(error, psycopg.errors.QueryCanceled):
        return (
            f"the database gave it up, as it took too long ({text}). Behind a pooler the role's "
            "statement_timeout holds: name the server itself in QUANTRAC_DATABASE_URL."
        )
    if isinstance(error, psycopg.errors.DiskFull):
        return f"the database's disk is full ({text}). Make room, then try again."
    if isinstance(error, psycopg.OperationalError):
        return f"the database does not answer ({text}). " + (
            cure(error) or "Is `quantrac up` running, and does QUANTRAC_DATABASE_URL name the right server?"
        )
    return None


def _end(message: str, status: int) -> None:
    typer.echo(f"quantrac: {message}", err=True)
    sys.exit(status)
