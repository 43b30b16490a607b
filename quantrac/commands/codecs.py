"""`codecs` and `decode`: payload formats and what they make of bytes."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from decoders.registry import Registry, load_codecs
from decoders.vectors import run_vectors
from quantrac.commands.options import AsJson
from telemetry.errors import DecodeError, QuantracError, UsageError


def add_to(app: typer.Typer) -> None:
    panel = "Decoding"
    codecs = typer.Typer(no_args_is_help=True, help="Payload formats and their test vectors.")
    codecs.command("list")(list_)
    codecs.command("show")(show)
    codecs.command("test")(run_tests)
    app.add_typer(codecs, name="codecs", rich_help_panel=panel)
    app.command(rich_help_panel=panel)(decode)


def _registry() -> Registry:
    registry = load_codecs()
    for problem in registry.problems:
        typer.echo(f"quantrac: {problem}", err=True)
    return registry


def list_(as_json: AsJson = False) -> None:
    """List the codecs that are installed, ours and third parties'."""
    registry = _registry()
    rows = [{"id": id_, "version": registry.get(id_).version} for id_ in registry.ids()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        typer.echo(f"{row['id']:<24} {row['version']}")


def show(codec: str) -> None:
    """Show a codec's documentation: frame, units, special values."""
    found = _registry().get(codec)
    package = type(found).__module__.rpartition(".")[0]
    readme = files(package).joinpath("README.md")
    if readme.is_file():
        typer.echo(readme.read_text(encoding="utf-8"))
    else:
        typer.echo(f"{found.id} {found.version}\n\n{type(found).__doc__ or 'It has no documentation.'}")


def run_tests(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders with vectors.json, each named as its codec; all built-ins when none."),
    ] = None,
) -> None:
    """Run test vectors and print every difference. Exit status 1 when one fails."""
    registry = _registry()
    passed = failed = 0
    for codec, folder in _vector_folders(registry, folders or []):
        for result in run_vectors(registry.get(codec), folder):
            if result.passed:
                passed += 1
            else:
                failed += 1
                typer.echo(f"{codec}: {result.name}: {result.difference}")
    typer.echo(f"{passed} passed, {failed} failed")
    if failed:
        raise typer.Exit(1)


def _vector_folders(registry: Registry, named: list[Path]) -> list[tuple[str, Path]]:
    if not named:
        found = []
        for id_ in registry.ids():
            package = type(registry.get(id_)).__module__.rpartition(".")[0]
            with as_file(files(package)) as folder:
                if (folder / "vectors.json").is_file():
                    found.append((id_, folder))
        return found
    for folder in named:
        if not (folder / "vectors.json").is_file():
            raise UsageError(f"{folder} holds no vectors.json")
    return [(folder.resolve().name.replace("_", "-"), folder) for folder in named]


def decode(
    payload: Annotated[str, typer.Argument(metavar="HEX", help="The payload, in hex.")],
    codec: Annotated[str, typer.Option(help="Which codec: see `quantrac codecs list`.")],
    fport: Annotated[int, typer.Option(min=0, max=255, help="The frame's f_port.")],
) -> None:
    """Decode one payload and print its fields as JSON on stdout."""
    try:
        data = bytes.fromhex(payload.removeprefix("0x"))
    except ValueError:
        raise UsageError(f"{payload!r} is not hex; write two digits a byte, as in 0b450b05") from None
    try:
        fields = _registry().get(codec).decode(fport, data)
    except DecodeError as error:
        raise QuantracError(f"{codec}: {error}") from None
    typer.echo(json.dumps(fields, ensure_ascii=False))
