"""Master data in: `stations import`, `devices import`, …, `units`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantrac.commands.options import Data
from quantrac.context import Context
from telemetry.errors import UsageError
from telemetry.store.pool import connect

if TYPE_CHECKING:
    import psycopg

DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check, change nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Tell what became of every row, as JSON on stdout.")]
_PANEL = "Master data"


def add_to(app: typer.Typer) -> None:
    for name, command, told in (
        ("stations", import_stations, "Places that carry devices."),
        ("devices", import_devices, "LoRaWAN devices."),
        ("gateways", import_gateways, "LoRaWAN gateways."),
        ("owners", import_owners, "Organisations that stations, facilities and gateways belong to."),
        ("facilities", import_facilities, "Plants with discharge permits, industrial zones."),
    ):
        group = typer.Typer(no_args_is_help=True, help=told)
        group.callback()(_nothing)  # else a group of one command would be that command
        group.command("import")(command)
        app.add_typer(group, name=name, rich_help_panel=_PANEL)
    units = typer.Typer(no_args_is_help=True, help="Administrative units: provinces, districts, communes.")
    units.command("import")(import_units)
    units.command("follow")(follow_units)
    app.add_typer(units, name="units", rich_help_panel=_PANEL)


def _nothing() -> None:
    pass


def import_stations(file: Path, dry_run: DryRun = False, json: AsJson = False, data: Data = None) -> None:
    """Import stations from CSV or GeoJSON: all rows, or none when one is wrong."""
    _import("stations", file, dry_run, json, data)


def import_devices(file: Path, dry_run: DryRun = False, json: AsJson = False, data: Data = None) -> None:
    """Import devices from CSV: all rows or none. Frames they sent before are decoded too."""
    _import("devices", file, dry_run, json, data)


def import_gateways(file: Path, dry_run: DryRun = False, json: AsJson = False, data: Data = None) -> None:
    """Import gateways from CSV or GeoJSON: all rows or none."""
    _import("gateways", file, dry_run, json, data)


def import_owners(file: Path, dry_run: DryRun = False, json: AsJson = False, data: Data = None) -> None:
    """Import owners from CSV: all rows or none."""
    _import("owners", file, dry_run, json, data)


def import_facilities(file: Path, dry_run: DryRun = False, json: AsJson = False, data: Data = None) -> None:
    """Import facilities from CSV or GeoJSON: all rows or none."""
    _import("facilities", file, dry_run, json, data)


def import_units(
    file: Annotated[Path | None, typer.Argument(help="A CSV.")] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="The communes of `vietnam-provinces`, where you installed it.")
    ] = False,
    dry_run: DryRun = False,
    json: AsJson = False,
    data: Data = None,
) -> None:
    """Import administrative units from CSV: all rows or none. Provinces are there from the start."""
    if installed == (file is not None):
        raise UsageError("Name a file, or give --installed; one of the two.")
    if file is not None:
        _import("units", file, dry_run, json, data)
        return
    from quantrac.imports.package import installed_file, write_communes

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "communes.csv"
        write_communes(*installed_file(), made)
        _import("units", made, dry_run, json, data)


def follow_units(dry_run: DryRun = False, data: Data = None) -> None:
    """Let stations and facilities whose administrative unit ended belong to its successor since then."""
    from telemetry.store.belonging import follow_successors

    with connect(Context(data).store().database_url, application="quantrac units") as connection:
        followed, left = follow_successors(connection.cursor())
        if dry_run:
            connection.rollback()
    for what, code, old, new in followed:
        typer.echo(f"{what} {code}: {old} → {new}", err=True)
    for what, code, old, heirs in left:
        cure = f"choose one of {', '.join(heirs)}" if heirs else "name its successors: quantrac units import"
        typer.echo(f"quantrac: warning: {what} {code}: {old} ended; {cure}", err=True)
    typer.echo(f"units followed: {len(followed)}{' (nothing changed)' if dry_run else ''}")


def _import(what: str, file: Path, dry_run: bool, as_json: bool, data: Path | None) -> None:
    from quantrac.imports.kinds import KINDS

    with connect(Context(data).store().database_url, application="quantrac import") as connection:
        _import_over(connection, what, file, dry_run=dry_run, as_json=as_json, kind=KINDS[what])


def _import_over(
    connection: psycopg.Connection[Any], what: str, file: Path, *, dry_run: bool, as_json: bool, kind: Any
) -> None:
    from quantrac.imports.report import fault_lines, row_lines, warning_lines, write_json
    from quantrac.imports.run import begin_import

    done = begin_import(connection, file, kind)
    kept = not (dry_run or done.refused)
    faults, warnings = fault_lines(done, file), warning_lines(done, file)
    rows = row_lines(done) if dry_run else []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as report:
        if as_json:
            write_json(done, file, kept=kept, out=report)
        # "kept" is said when it is so.
        connection.commit() if kept else connection.rollback()
        report.seek(0)
        shutil.copyfileobj(report, sys.stdout)
    if faults:
        raise UsageError("\n".join(faults))
    for sentence in warnings:
        typer.echo(f"quantrac: warning: {sentence}", err=True)
    if as_json:
        return
    for line in rows:
        typer.echo(line, err=True)
    typer.echo(f"{what} {'checked' if dry_run else 'imported'}: {done.rows}")
