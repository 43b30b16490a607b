"""`stations import`, `devices import`: master data in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantrac.commands.options import Data
from quantrac.context import Context
from telemetry.errors import UsageError
from telemetry.store.pool import connect

DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check, change nothing.")]


def add_to(app: typer.Typer) -> None:
    panel = "Master data"
    stations = typer.Typer(no_args_is_help=True, help="Places that carry devices.")
    stations.command("import")(import_stations)
    app.add_typer(stations, name="stations", rich_help_panel=panel)
    devices = typer.Typer(no_args_is_help=True, help="LoRaWAN devices.")
    devices.command("import")(import_devices)
    app.add_typer(devices, name="devices", rich_help_panel=panel)


def import_stations(file: Path, dry_run: DryRun = False, data: Data = None) -> None:
    """Import stations from CSV or GeoJSON: all rows, or none when one is wrong."""
    from quantrac.exchange import falling_ladders, read_stations
    from telemetry.store.master import save_station

    rows = read_stations(file)
    if not dry_run:
        with connect(Context(data).store().database_url, application="quantrac import") as connection:
            for row in rows:
                save_station(connection.cursor(), row)
    for sentence in falling_ladders(rows):
        typer.echo(f"quantrac: warning: {file}: {sentence}", err=True)
    typer.echo(f"stations {'checked' if dry_run else 'imported'}: {len(rows)}")


def import_devices(file: Path, dry_run: DryRun = False, data: Data = None) -> None:
    """Import devices from CSV: all rows or none. Frames they sent before are decoded too."""
    from decoders.device_types import check_variables
    from quantrac.exchange import read_placed_devices
    from telemetry.store.master import ask_for_decoding, save_device

    rows = read_placed_devices(file)
    faults, warnings = [], []
    with connect(Context(data).store().database_url, application="quantrac import") as connection:
        cursor = connection.cursor()
        for place, row in rows:
            try:
                saved = save_device(cursor, row, check_variables)
            except UsageError as error:
                faults += [f"{place}: {line}" for line in str(error).splitlines()]
                continue
            warnings += [
                f"{place}: variables.{name}: missing; without it this {row['device_type']} gives less"
                for name in saved.missing
            ]
            ask_for_decoding(cursor, saved.id, "command line")
        if faults:
            raise UsageError("\n".join(faults))
        if dry_run:
            connection.rollback()
    for sentence in warnings:
        typer.echo(f"quantrac: warning: {sentence}", err=True)
    typer.echo(f"devices {'checked' if dry_run else 'imported'}: {len(rows)}")
