"""`purge`: remove what must not stay; docs/how-to/simulate.md."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated

import typer
from psycopg.types.json import Jsonb

from quantrac.commands.options import AsJson, Data
from quantrac.context import Context
from quantrac.progress import progress_bar
from quantrac.texts import actor
from telemetry.errors import QuantracError
from telemetry.store import latest, purge
from telemetry.store.leader import try_to_hold
from telemetry.store.pool import async_connect, connect

QUIET_SECONDS = 30.0
"""For so long no simulated device may have been heard before its data are removed."""
_APPLICATION = "quantrac purge"
_AUDIT = "INSERT INTO audit (actor, action, object, detail) VALUES (%s, %s, 'simulated', %s)"


def add_to(app: typer.Typer) -> None:
    command = typer.Typer(no_args_is_help=True, help="Remove what must not stay; docs/how-to/simulate.md.")
    command.callback()(_purge)
    command.command("simulated")(simulated)
    app.add_typer(command, name="purge", rich_help_panel="Simulation")


def _purge() -> None:
    """Keeps `simulated` a word of its own: others may follow."""


def simulated(
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this it only says what it would.")
    ] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Remove simulated devices and stations with all that came of them. Real devices' data stay as they are.

    Ingest goes on meanwhile. A station where a real device stands or stood stays, and so do rules.
    """
    url = Context(data).store().database_url
    with connect(url, application=_APPLICATION, autocommit=True) as connection:
        found = purge.count(connection)
        silent = purge.last_heard(connection)
        if not yes:
            _tell(found, as_json=as_json, done=False)
            return
        if silent is not None and silent < QUIET_SECONDS:
            raise QuantracError(
                f"a simulated device was heard {max(silent, 0):.0f} s ago; stop its simulator, and try again "
                f"after {QUIET_SECONDS:.0f} s"
            )
        with connect(url, application=_APPLICATION) as alone:
            if not try_to_hold(alone, "purge"):
                raise QuantracError("somebody purges already; try again when that has ended")
            asyncio.run(_let_followers_catch_up(url))
            _note(connection, "purge.begun", found)
            gone = _work(connection, sum(found.values()))
            _note(connection, "purge.ended", gone)
        left = purge.devices(connection)
    _tell(gone, as_json=as_json, done=True)
    if left:
        raise QuantracError(f"{left} simulated devices were heard meanwhile and stay; stop their simulator")


async def _let_followers_catch_up(url: str) -> None:
    """What followers of the newest readings have yet to see, they would write after its device is gone."""
    async with await async_connect(url, application=_APPLICATION, autocommit=True) as connection:
        while await latest.step(connection):
            pass


def _work(connection: purge.Connection, expected: int) -> dict[str, int]:
    gone: Counter[str] = Counter()
    with progress_bar("purging") as show:
        for part in purge.purge(connection):
            gone.update(part)
            show(gone.total(), max(expected, gone.total()))
    return {relation: rows for relation, rows in gone.items() if rows}


def _note(connection: purge.Connection, action: str, rows: Mapping[str, int]) -> None:
    connection.execute(_AUDIT, (actor(), action, Jsonb({name: n for name, n in rows.items() if n})))


def _tell(rows: Mapping[str, int], *, as_json: bool, done: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"removed" if done else "would_remove": dict(rows)}))
        return
    for relation, number in sorted(rows.items()):
        if number:
            typer.echo(f"{relation:<24} {number:>14,}")
    if not any(rows.values()):
        typer.echo("nothing is simulated here")
    elif not done:
        typer.echo("Nothing was removed; --yes removes these rows.")
