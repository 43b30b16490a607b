"""`migrate`, `status`, `doctor`: the schema, the state of a running system, and what is wrong with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from quantrac.commands.options import AsJson, Data
from quantrac.context import Context

if TYPE_CHECKING:
    from quantrac.doctor import Finding


def add_to(app: typer.Typer) -> None:
    panel = "State"
    app.command(rich_help_panel=panel)(migrate)
    app.command(rich_help_panel=panel)(status)
    app.command(rich_help_panel=panel)(doctor)


def migrate(
    data: Data = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="Also fill the rollups now, as after a restore; by itself it takes some minutes.",
        ),
    ] = False,
) -> None:
    """Create the schema or bring it up to date. Safe to run at any time, by several at once."""
    from quantrac.seed import seed
    from telemetry.store.migrate import migrate as run_migrations
    from telemetry.store.policies import apply_settings, refresh_kept
    from telemetry.store.pool import connect

    store = Context(data).store()
    url = store.database_url
    done = run_migrations(url, lock_timeout=store.database_migrate_lock_timeout)
    seed(url)
    with connect(url, application="quantrac migrate", autocommit=True) as connection:
        policies = apply_settings(connection, store)
        if refresh:
            refresh_kept(connection)
    changed = (
        f"{done.before or 'empty'} → {done.after}"
        if done.before != done.after
        else f"{done.after}, as it was"
    )
    typer.echo(f"{done.edition.value}: schema {changed}")
    if done.hypertables:
        typer.echo(f"hypertables made: {', '.join(done.hypertables)}")
    if done.rollups:
        typer.echo(f"rollups made: {', '.join(done.rollups)}")
    for policy in policies:
        typer.echo(policy)


def status(data: Data = None, as_json: AsJson = False) -> None:
    """Show what is stored, open, firing and waiting."""
    from rich.console import Console
    from rich.table import Table

    from quantrac.status import read_status

    found = read_status(Context(data).store().database_url)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for group, values in found.items():
        for name, value in values.items():
            table.add_row(
                f"{group} {name.replace('_', ' ')}",
                "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value),
            )
    Console().print(table)


def doctor(data: Data = None, as_json: AsJson = False) -> None:
    """Check settings, database, broker and disk; each fault comes with its cure (exit status 1)."""
    from quantrac.doctor import examine

    findings = examine(Context(data))
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], ensure_ascii=False, indent=1))
    else:
        for finding in findings:
            typer.echo(_line(finding))
    if any(finding.level == "fault" for finding in findings):
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    sign = {"ok": "✓", "warning": "!", "fault": "✗"}[finding.level]
    return f"{sign} {finding.subject}: {finding.text}" + (f"\n    → {finding.cure}" if finding.cure else "")
