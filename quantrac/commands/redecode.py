"""`redecode`: stored frames through the codec and map that hold now; docs/how-to/redecode.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantrac.commands.options import AsJson, Data
from quantrac.context import Context
from quantrac.progress import progress_bar
from quantrac.tables import read_text
from quantrac.texts import printable
from telemetry.catalogue import CATALOGUE
from telemetry.clock import SystemClock
from telemetry.errors import QuantracError, UsageError
from telemetry.observability import setup_logging
from telemetry.settings import load

if TYPE_CHECKING:
    from ingest.codecs import Codecs
    from ingest.preview import Preview
    from quantrac.redecoding import Wish

_AGO = re.compile(r"(\d{1,5})([hdw])", re.ASCII)
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_EUI = re.compile(r"[0-9a-f]{16}")


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="Decoding")(redecode)


def redecode(
    device_type: Annotated[
        str | None, typer.Option(metavar="ID", help="Frames of all devices of this type.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(metavar="DEV_EUI", help="Frames of this device only; may be repeated.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Frames from here on: 2026-11-01, 2026-11-01T07:00+07:00, 36h, 30d."
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Frames before this time.")] = None,
    codec: Annotated[
        str | None,
        typer.Option(metavar="ID[@VERSION]", help="Give the device type this codec first."),
    ] = None,
    map_: Annotated[
        Path | None,
        typer.Option("--map", metavar="FILE", help="Give the device type this map (YAML) first."),
    ] = None,
    all_: Annotated[
        bool,
        typer.Option("--all", help="Also frames that carry the present stamp: after a change of variables."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change, with a sample; change nothing.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the work to `quantrac ingest`.")] = False,
    resume: Annotated[int | None, typer.Option(metavar="N", min=1, help="Go on with redecoding N.")] = None,
    cancel: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop redecoding N; what is decoded stays so.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show redecodings and how far they got.")] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Decode stored frames again, after a codec, a map or a device's firmware was corrected.

    What holds now is used: name --codec or --map to change the device type first. Readings that differ are
    replaced, what they were is kept, and alerts are worked out anew as late data. Live frames come in
    meanwhile. Ctrl-C stops after the step under way; --resume goes on.
    """
    from ingest.horizon import horizon_of
    from quantrac import redecoding

    context = Context(data)
    setup_logging(context.common, "redecode")
    url = context.store().database_url
    named = [
        option for option, given in (("--resume", resume), ("--cancel", cancel), ("--list", list_)) if given
    ]
    orders = (device_type, device, since, until, codec, map_, all_, dry_run, detach)
    if len(named) > 1 or (named and any(orders)):
        raise UsageError(f"{named[0]} goes with no other of these options")
    if list_:
        _show_all(redecoding.list_all(url), as_json)
        return
    if cancel is not None:
        left = redecoding.cancel(url, cancel)
        if not left:
            raise QuantracError(f"redecoding {cancel} had ended before; `quantrac redecode --list` shows how")
        typer.echo(f"redecoding {cancel}: {left} devices are left as they are")
        return
    if resume is not None:
        if not redecoding.find(url, resume)["waiting"]:
            raise QuantracError(f"redecoding {resume} has ended; `quantrac redecode --list` shows how")
        with _codecs() as codecs:
            _work_off(url, resume, codecs, as_json)
        return
    wish = _wish(device_type, device, since, until, codec, map_, every_frame=all_)
    kept = horizon_of(context.store(), SystemClock())().readings
    if kept is not None and wish.span.since < kept:
        wish = wish._replace(span=wish.span._replace(since=kept))
        typer.echo(f"frames from before {kept:%Y-%m-%d} stay as they are: their readings are gone", err=True)
    with _codecs() as codecs:
        if dry_run:
            with progress_bar("comparing") as progress:
                found = redecoding.preview(url, wish, codecs, progress)
            _show_preview(found, as_json)
            return
        number = redecoding.begin(url, wish, codecs, detached=detach)
        if number is None:
            said = "no frames of such devices in this time"
            if wish.changes:
                said += f"; {wish.device_type} is changed all the same"
            _print(as_json, {"redecoding": None, "frames": 0}, said)
        elif detach:
            _print(
                as_json,
                {"redecoding": number},
                f"redecoding {number}: left to ingest; --list shows its progress",
            )
        else:
            _work_off(url, number, codecs, as_json)


@contextmanager
def _codecs() -> Iterator[Codecs]:
    from ingest.codecs import open_codecs
    from ingest.settings import IngestSettings

    codecs = open_codecs(load(IngestSettings))
    try:
        yield codecs
    finally:
        codecs.javascript.close()


def _work_off(url: str, number: int, codecs: Codecs, as_json: bool) -> None:
    from quantrac import redecoding

    with progress_bar("decoding") as progress:
        ended = redecoding.work_off(url, number, codecs, progress)
    found = redecoding.find(url, number)
    _print(as_json, _plain(found), _sentence(found))
    if not ended:
        raise QuantracError(f"interrupted; `quantrac redecode --resume {number}` goes on")
    if found["cancelled"]:
        raise QuantracError(f"cancelled; {found['cancelled']} devices are left as they are")
    if found["failed"]:
        frames = f"{found['untouched']} frames" if found["untouched"] else "frames"
        raise QuantracError(
            f"{frames} of {found['failed']} devices are as they were ({found['error']}); once that is "
            "mended, the same command does what is left"
        )


def _wish(
    device_type: str | None,
    devices: list[str] | None,
    since: str | None,
    until: str | None,
    codec: str | None,
    map_: Path | None,
    *,
    every_frame: bool,
) -> Wish:
    from ingest.decode_jobs import Span
    from quantrac.redecoding import Wish

    if device_type is None and not devices:
        raise UsageError("name the frames with --device-type, --device or both")
    if since is None:
        raise UsageError("--since is needed: the time of the first frame, such as 2026-11-01 or 30d")
    changes: dict[str, Any] = {}
    if codec is not None:
        changes["codec"], _, version = codec.partition("@")
        changes["codec_version"] = version or None
        if not changes["codec"]:
            raise UsageError(f"--codec: {codec!r} names no codec; `quantrac codecs list` shows them")
    if map_ is not None:
        changes["map"] = _read_map(map_)
    if changes and device_type is None:
        raise UsageError("--codec and --map change a device type: name it with --device-type")
    if changes and devices:
        raise UsageError("--codec and --map concern all devices of the type: leave --device out")
    euis = [eui.lower().replace("-", "").replace(":", "") for eui in devices] if devices else None
    if wrong := [eui for eui in euis or [] if not _EUI.fullmatch(eui)]:
        raise UsageError(f"--device: {wrong[0]!r} is no DevEUI; 16 hexadecimal digits are needed")
    now = SystemClock().now()
    span = Span(_moment("--since", since, now), None if until is None else _moment("--until", until, now))
    if span.until is not None and span.until <= span.since:
        raise UsageError("--until must be later than --since")
    return Wish(device_type, euis, span, every_frame, changes)


def _moment(option: str, text: str, now: datetime) -> datetime:
    """A time, a day, or how long ago; without an offset in UTC."""
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option}: {text!r} is no time; give 2026-11-01, 2026-11-01T07:00+07:00, or 36h, 30d, 4w ago"
        ) from None


def _read_map(file: Path) -> Any:
    import yaml

    try:
        read = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise UsageError(f"--map: {file} is no YAML: {' '.join(str(error).split())}") from None
    return read["map"] if isinstance(read, dict) and "map" in read else read


def _show_preview(found: Preview, as_json: bool) -> None:
    import msgspec

    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
        return
    typer.echo(f"{found.frames} frames of {found.devices} devices; nothing was written")
    typer.echo(f"  {found.same:>9}  carry the present stamp already (--all looks at them too)")
    rest = found.frames - found.same - found.changed - found.untouched
    typer.echo(f"  {found.changed:>9}  would give other readings")
    typer.echo(f"  {rest:>9}  would give the same readings")
    typer.echo(f"  {found.untouched:>9}  would be left as they are: no codec answers")
    if found.metrics:
        typer.echo(f"\n{'metric':<28} {'altered':>9} {'new':>9} {'gone':>9}  largest difference")
    for metric, change in sorted(found.metrics.items()):
        largest = f"{_number(metric, change.largest)} {CATALOGUE[metric].unit}" if change.altered else "-"
        typer.echo(f"{metric:<28} {change.altered:>9} {change.added:>9} {change.removed:>9}  {largest}")
    if found.examples:
        typer.echo("\nfor example")
    for one in found.examples:
        before, after = (_number(one.metric, value) for value in (one.before, one.after))
        where = f"{one.time:%Y-%m-%d %H:%M:%S}Z  {one.dev_eui}  {one.metric}:{one.channel}"
        typer.echo(f"  {where}  {before} → {after} {CATALOGUE[one.metric].unit}")
    if found.problems:
        typer.echo("\nwhat would be said of frames")
    for problem, frames in found.problems.items():
        typer.echo(f"  {frames:>9}  {printable(problem)[:200]}")


def _number(metric: str, value: float | None) -> str:
    if value is None:
        return "none"
    rounded = round(value, CATALOGUE[metric].precision)
    return f"{rounded:g}" if abs(rounded - value) <= 1e-9 * abs(value) else f"{value:g}"


def _show_all(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_plain(row) for row in rows], ensure_ascii=False, indent=1))
        return
    for row in rows:
        typer.echo(_sentence(row))
    if not rows:
        typer.echo("none")


def _sentence(row: dict[str, Any]) -> str:
    state = "waiting" if row["waiting"] else "cancelled" if row["cancelled"] else "done"
    whose = row["device_type"] or "named devices"
    ended = row["devices"] - row["waiting"]
    return (
        f"redecoding {row['id']} ({whose}, since {row['since']:%Y-%m-%d %H:%M}Z): {state}, {ended} of "
        f"{row['devices']} devices, {row['frames']} of {row['expected']} frames; {row['changed']} changed, "
        f"{row['untouched']} left as they were"
    )


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}


def _print(as_json: bool, answer: dict[str, Any], sentence: str) -> None:
    typer.echo(json.dumps(answer, ensure_ascii=False, indent=1) if as_json else sentence)
