"""`codecs`: payload formats, those that are installed and vendors' JavaScript in the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from decoders.registry import Script, load_codecs
from quantrac.codec_registry import machine_registry, source_of, stored_codecs, users_of, whole_registry
from quantrac.commands.decode import decode
from quantrac.commands.options import AsJson, Data
from quantrac.context import Context
from telemetry.errors import UsageError
from telemetry.plugin import Codec

SHOWN = 20  # lines of one kind in a report for a person


def add_to(app: typer.Typer) -> None:
    panel = "Decoding"
    codecs = typer.Typer(no_args_is_help=True, help="Payload formats and their test vectors.")
    codecs.command("list")(list_)
    codecs.command("show")(show)
    codecs.command("add")(add)
    codecs.command("test")(run_tests)
    app.add_typer(codecs, name="codecs", rich_help_panel=panel)
    app.command(rich_help_panel=panel)(decode)


def list_(as_json: AsJson = False, data: Data = None) -> None:
    """List the codecs: installed ones in Python, those of the user's folder, and those of the store.

    Each with its newest version. Where no database is named, only those of this machine.
    """
    registry = whole_registry(data, machine_registry())
    rows: list[dict[str, Any]] = []
    for id_ in registry.ids():
        found = registry.find(id_)
        if isinstance(found, Script):
            versions = len(registry.scripts[id_])
            rows.append(_row(id_, "javascript", found.version, versions, found.origin))
        else:
            rows.append(_row(id_, "python", found.version, 1, "installed"))
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        more = f"  ({row['versions']} versions)" if row["versions"] > 1 else ""
        typer.echo(f"{row['id']:<44} {row['kind']:<10} {row['version']:<16}  {row['origin']}{more}")


def show(
    codec: Annotated[str, typer.Argument(metavar="ID", help="Which one: see `quantrac codecs list`.")],
    source: Annotated[bool, typer.Option("--source", help="Print the newest version's JavaScript.")] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Show a Python codec's documentation, or the versions of a JavaScript one and who uses it."""
    registry = machine_registry()
    if codec not in registry.codecs:
        registry = whole_registry(data, registry)
    found = registry.find(codec)
    if not isinstance(found, Script):
        _show_python(found, as_json)
    elif source:
        typer.echo(source_of(found, data))
    else:
        _show_script(codec, registry.scripts[codec], data, as_json)


def add(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="One vendor's codec (*.js with its examples and device_type.yaml), or a checkout of "
            "The Things Network's device repository or of ChirpStack's device profiles.",
        ),
    ],
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Of one codec; else as device_type.yaml or the folder says."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Give each call of this codec an engine context of its own.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Add a codec though its own examples fail.")] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Add a vendor's JavaScript codec, or all of a device repository, to the store.

    A codec whose own examples fail is refused. What is there already stays as it is; another source under the
    same id becomes its newest version. Exit status 1 when something was refused.
    """
    from decoders.devicerepo.checkout import find_checkout
    from quantrac.codec_add import add_checkout, add_single

    url = Context(data).store().database_url
    checkout = find_checkout(folder)
    if checkout is not None and (id_ or fresh):
        raise UsageError("--id and --fresh are for one vendor's codec; this is a checkout of many")
    if checkout is not None:
        report = add_checkout(url, checkout, force=force)
    else:
        report = add_single(url, folder, machine_registry().ids(), id_=id_, fresh=fresh, force=force)
    if as_json:
        _print_json(report.to_dict())
    else:
        for line in report.lines(SHOWN):
            typer.echo(line)
    if report.refused:
        raise typer.Exit(1)


def run_tests(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DIR]...",
            help="Checkouts of device repositories, folders with one vendor's codec, or folders with "
            "vectors.json named as their Python codec; all built-in codecs when none.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run test vectors and print every difference. Exit status 1 when one fails."""
    from decoders.javascript.workers import JsWorkers
    from quantrac.codec_checks import Tested, check_folder, check_installed
    from quantrac.progress import progress_bar

    registry = load_codecs()
    tested = Tested()
    with JsWorkers() as workers, progress_bar("testing codecs") as progress:
        parts = [check_folder(folder, registry, workers, progress) for folder in folders or []]
    for part in parts or [check_installed(registry)]:
        tested.passed += part.passed
        tested.failed += part.failed
        tested.skipped += part.skipped
    if as_json:
        _print_json(
            {
                "passed": tested.passed.total(),
                "failed": len(tested.failed),
                "skipped": len(tested.skipped),
                "passed_by_function": dict(tested.passed),
                "failures": tested.failed,
                "not_read": [str(problem) for problem in tested.skipped],
            }
        )
    else:
        for text in [*map(str, tested.skipped), *tested.failed]:
            typer.echo(text)
        if tested.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in tested.reasons().most_common())
            typer.echo(f"{len(tested.skipped)} skipped: {reasons}")
        typer.echo(f"{tested.passed.total()} passed, {len(tested.failed)} failed")
    if tested.failed:
        raise typer.Exit(1)


def _show_python(codec: Codec, as_json: bool) -> None:
    readme = files(type(codec).__module__.rpartition(".")[0]).joinpath("README.md")
    if as_json:
        _print_json({"id": codec.id, "version": codec.version, "documentation": type(codec).__doc__})
    elif readme.is_file():
        typer.echo(readme.read_text(encoding="utf-8"))
    else:
        typer.echo(f"{codec.id} {codec.version}\n\n{type(codec).__doc__ or 'It has no documentation.'}")


def _show_script(codec: str, versions: Sequence[Script], data: Data, as_json: bool) -> None:
    stored = {entry.version: entry for entry in stored_codecs(data) if entry.id == codec}
    users = users_of(codec, data) if stored else []
    rows: list[dict[str, Any]] = [
        {"version": script.version, "fresh": script.fresh, "origin": script.origin}
        | (
            {"added_at": entry.added_at.isoformat(), "added_by": entry.added_by}
            if (entry := stored.get(script.version)) and script.source is None
            else {}
        )
        for script in versions
    ]
    if as_json:
        _print_json({"id": codec, "versions": rows, "device_types": users})
        return
    typer.echo(codec)
    for row in rows:
        notes = [row["origin"], row.get("added_by"), "fresh contexts" if row["fresh"] else ""]
        typer.echo(
            f"  {row['version']}  {row.get('added_at', '')[:19]:<19}  {', '.join(filter(None, notes))}"
        )
    typer.echo(f"device types: {', '.join(users) or 'none'}")


def _row(id_: str, kind: str, version: str, versions: int, origin: str) -> dict[str, Any]:
    return {"id": id_, "kind": kind, "version": version, "versions": versions, "origin": origin}


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))
