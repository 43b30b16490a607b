"""`decode`: what a codec, and a device type's map, make of one payload."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantrac.commands.options import AsJson, Data
from quantrac.context import Context
from telemetry.errors import QuantracError, UsageError

if TYPE_CHECKING:
    from decoders.device_types import DeviceType
    from decoders.javascript.calls import Outcome
    from decoders.registry import Script
    from ingest.trial import Trial
    from telemetry.plugin import Codec

_QUALITY = {1: "good", 2: "not evaluated", 3: "suspect", 4: "fail", 9: "missing"}


def decode(
    payload: Annotated[str, typer.Argument(metavar="HEX", help="The payload, in hex or base64.")],
    codec: Annotated[
        str,
        typer.Option(help="Which codec: ID or ID@VERSION of `quantrac codecs list`, or a file (*.js)."),
    ],
    fport: Annotated[int, typer.Option(min=0, max=255, help="The frame's f_port.")],
    time: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"],
            help="When the frame was received (UTC), and what the codec's clock shows; now when not given.",
        ),
    ] = None,
    variables: Annotated[
        str | None, typer.Option(metavar="JSON", help="The device's: '{\"sensor_elevation_m\": 98.5}'.")
    ] = None,
    device_type: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Map the fields as this device type, or a file (*.yaml), says."),
    ] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Decode one payload: its fields as JSON on stdout; metrics, messages and time used on stderr.

    With --json all of it as one object on stdout.
    """
    from ingest.trial import judge, read_payload

    frame = read_payload(payload)
    given = _variables(variables)
    at = time.replace(tzinfo=UTC) if time else datetime.now(UTC)
    type_ = _device_type(device_type, data) if device_type else None
    trial = judge(_call(codec, data, fport, frame, at, given), type_, at, given)
    if as_json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(trial), indent=1).decode())
    else:
        _tell(trial)
    if trial.errors:
        raise QuantracError(f"{codec}: {'; '.join(trial.errors)}")


def _call(
    codec: str, data: Data, fport: int, frame: bytes, at: datetime, variables: dict[str, Any]
) -> Outcome:
    from decoders.javascript.workers import JsWorkers
    from decoders.registry import Script
    from ingest.trial import call_native, call_script

    found = _find(codec, data)
    if not isinstance(found, Script):
        return call_native(found, fport, frame)
    with JsWorkers() as workers:
        return call_script(workers, found, fport, frame, at, variables)


def _find(codec: str, data: Data) -> Codec | Script:
    """What `--codec` names; a JavaScript one with its source. The store is asked only when it must be."""
    from decoders.registry import Script
    from quantrac.codec_registry import machine_registry, source_of, whole_registry

    if codec.endswith(".js"):
        try:
            return Script(codec, "", Path(codec).read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--codec: {codec} cannot be read: {error}") from None
    id_, _, version = codec.partition("@")
    registry = machine_registry()
    if id_ not in registry.ids() or version:
        registry = whole_registry(data, registry)
    found = registry.find(id_, version or None)
    return replace(found, source=source_of(found, data)) if isinstance(found, Script) else found


def _device_type(name: str, data: Data) -> DeviceType:
    from decoders.device_types import builtin_device_types, parse_device_type, read_device_types
    from telemetry.catalogue import CATALOGUE
    from telemetry.store.pool import connect
    from telemetry.store.registry import read_device_types as read_stored

    if name.endswith((".yaml", ".yml")):
        try:
            return read_device_types(Path(name).read_text(encoding="utf-8"), CATALOGUE)[0]
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise UsageError(f"--device-type: {name} cannot be read: {error}") from None
    try:
        url = Context(data).store().database_url
    except UsageError:
        if name in builtin_device_types():
            return builtin_device_types()[name]
        raise
    with connect(url, application="quantrac decode") as connection:
        stored = {row["id"]: row for row in read_stored(connection.cursor())}
    if name not in stored:
        raise UsageError(f"--device-type: there is no {name!r}; GET /api/v1/device-types lists them")
    return parse_device_type(stored[name], CATALOGUE)


def _variables(text: str | None) -> dict[str, Any]:
    try:
        given = json.loads(text) if text else {}
    except ValueError as error:
        raise UsageError(f"--variables: not JSON: {error}") from None
    if not isinstance(given, dict):
        raise UsageError('--variables: an object is needed, as in {"sensor_elevation_m": 98.5}')
    return given


def _tell(trial: Trial) -> None:
    if trial.fields is not None:
        typer.echo(json.dumps(trial.fields, ensure_ascii=False))
    for metric in trial.metrics:
        channel = f" [{metric.channel}]" if metric.channel else ""
        flag = f"{metric.quality} {_QUALITY[metric.quality]}"
        told = f"{metric.metric}{channel} = {metric.value:.10g} {metric.unit}"
        typer.echo(f"{told}  (quality {flag})  {metric.time:%Y-%m-%dT%H:%M:%SZ}", err=True)
    for title, lines in (
        ("not mapped", trial.unmapped),
        ("problem", trial.problems),
        ("warning", trial.warnings),
        ("console", trial.console),
    ):
        for line in lines:
            typer.echo(f"{title}: {line}", err=True)
    typer.echo(f"time used: {trial.micros} µs", err=True)
