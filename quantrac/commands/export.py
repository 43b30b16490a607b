"""`export`: master data and alerts as CSV on stdout, series and evidence as files."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from quantrac.commands.options import Data
from quantrac.context import Context
from quantrac.progress import progress_bar
from telemetry.errors import UsageError
from telemetry.store.pool import connect

if TYPE_CHECKING:
    from api.exports.selection import Selection

_TABLES = ("stations", "devices", "gateways", "owners", "facilities", "units", "placements", "alerts")
Table = Literal[
    "stations", "devices", "gateways", "owners", "facilities", "units", "placements", "alerts",
    "readings", "rollups", "transitions",
]  # fmt: skip
_ENDINGS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet", ".xlsx": "xlsx"}
_PER_MILLE = 1000


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="Master data")(export)


def export(
    what: Annotated[Table, typer.Argument(help="What to export.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; its ending tells the format.")
    ] = None,
    form: Annotated[
        Literal["csv", "ndjson", "parquet", "xlsx"] | None,
        typer.Option("--format", help="Format of the file."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="From this time on, 2026-11-21T00:00:00+07:00.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Before this time; now when not given.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="DevEUI; may be repeated.")] = None,
    station: Annotated[list[str] | None, typer.Option(help="Code of a station; may be repeated.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Metric; may be repeated.")] = None,
    quality: Annotated[list[int] | None, typer.Option(help="Flag of readings; may be repeated.")] = None,
    resolution: Annotated[Literal["1h", "1d"], typer.Option(help="Of rollups.")] = "1h",
    zone: Annotated[Literal["Z", "+07:00"], typer.Option(help="Of times; Parquet always has UTC.")] = "Z",
    bom: Annotated[bool, typer.Option("--bom", help="Begin a CSV so that Excel knows it is UTF-8.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what an interrupted export left.")
    ] = False,
    data: Data = None,
) -> None:
    """Write a table. Master data and alerts go to stdout as CSV; what can be imported is read again as it is.

    Readings, rollups and transitions of alerts go to --out. Until it is whole, the file is called FILE.part.
    """
    if what in _TABLES:
        if out is not None:
            raise UsageError(f"{what} go to stdout; write: quantrac export {what} > {out}")
        _export_master(what, data)
        return
    if out is None:
        raise UsageError(f"{what} go to a file; name it with --out, such as --out {what}.parquet")
    asked = {
        "what": what, "format": form or _ENDINGS.get(out.suffix.lower(), "csv"), "from": start, "to": end,
        "devices": device or (), "stations": station or (), "metrics": metric or (), "quality": quality or (),
        "resolution": resolution, "zone": zone, "bom": bom,
    }  # fmt: skip
    typer.echo(f"{what} exported: {_export(asked, out, resume, data)}")


def _export_master(what: str, data: Path | None) -> None:
    from quantrac.exchange import export_csv

    with connect(Context(data).store().database_url, application="quantrac export") as connection:
        export_csv(connection, what, sys.stdout)


def _export(asked: dict[str, Any], out: Path, resume: bool, data: Path | None) -> int:
    from api.exports.files import selection_begun
    from api.exports.run import export as write

    selection = _selection(asked)
    if selection.end is None:
        begun = selection_begun(out) if resume else None
        selection = selection.until(begun.end if begun and begun.end else datetime.now(UTC))
    url = Context(data).store().database_url
    with (
        connect(url, application="quantrac export", autocommit=True) as connection,
        progress_bar(f"export {selection.what}") as bar,
    ):

        def tell(_: int, share: float) -> None:
            bar(int(share * _PER_MILLE), _PER_MILLE)

        return write(connection, selection, out, resume=resume, tell=tell)


def _selection(asked: dict[str, Any]) -> Selection:
    from pydantic import ValidationError

    from api.exports.selection import Selection

    try:
        return Selection.model_validate(asked)
    except ValidationError as error:
        faults = [
            f"--{str(fault['loc'][0]).removesuffix('s')}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        ]
        raise UsageError("\n".join(faults)) from None
