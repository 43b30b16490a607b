"""`record`, `replay` and `anonymise`: raw messages kept, played again, and handed on without names."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.settings import IngestSettings
from quantrac.commands.options import AsJson, Data, speed_of
from quantrac.context import Context
from quantrac.progress import counter, progress_bar
from telemetry.errors import UsageError
from telemetry.mqtt import parse_mqtt_url
from telemetry.observability import setup_logging
from telemetry.settings import load

if TYPE_CHECKING:
    from simulators.message import Message
    from simulators.record import Recorded
    from simulators.recording import Recording
    from simulators.replay import Summary

_MIB = 2**20
_KEY_BYTES = 32
_BATCH = 1000


def add_to(app: typer.Typer) -> None:
    for command in (record, replay, anonymise):
        app.command(rich_help_panel="Simulation")(command)


def record(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|FOLDER",
            help="A file (.ndjson, .ndjson.gz), or a folder of files that follow each other.",
        ),
    ],
    topic: Annotated[
        list[str] | None, typer.Option(metavar="FILTER", help="Topic filter; else QUANTRAC_MQTT_TOPICS.")
    ] = None,
    rotate_size: Annotated[
        float, typer.Option(min=0.01, metavar="MIB", help="In a folder: end a file at so many MiB.")
    ] = 64.0,
    rotate_after: Annotated[
        float, typer.Option(min=0.01, metavar="MINUTES", help="In a folder: end a file at so many minutes.")
    ] = 60.0,
    client_id: Annotated[
        str | None, typer.Option(help="One for each recorder: the broker keeps what it missed under it.")
    ] = None,
    keep_session: Annotated[
        bool, typer.Option("--keep-session", help="Let the broker keep what comes after a stop, too.")
    ] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Keep every message of a broker, as it is, until stopped.

    A message is acknowledged when it is on the disk: killed at any moment, the recorder has lost nothing.
    """
    from simulators.record import Recorder
    from simulators.recording import Recording

    context = Context(data)
    setup_logging(context.common, "record")
    settings = context.ingest()
    recording = Recording(target, largest=int(rotate_size * _MIB), longest=timedelta(minutes=rotate_after))
    with counter("messages recorded") as tell:
        recorder = Recorder(
            parse_mqtt_url(settings.mqtt_url),
            recording,
            topics=topic or settings.mqtt_topics,
            client_id=client_id or f"quantrac-record-{socket.gethostname()}",
            version=settings.mqtt_version,
            keep_session=keep_session,
            progress=lambda recorded: tell(recorded.messages),
        )
        with _Signals(recorder.stop):
            recorded = recorder.run()
    _say_recorded(recorded, recording.files, as_json)


def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings, or folders of them.")],
    speed: Annotated[
        str, typer.Option(metavar="X|max", help="Recorded seconds a second; max: as fast as they are taken.")
    ] = "1",
    shift_to: Annotated[
        str | None, typer.Option(metavar="now|TIME", help="Move all times, those in the messages, too.")
    ] = None,
    straight: Annotated[
        bool, typer.Option("--straight", help="Into the store through the pipeline, without a broker.")
    ] = False,
    device: Annotated[list[str] | None, typer.Option(metavar="EUI", help="Only this device's.")] = None,
    topic: Annotated[list[str] | None, typer.Option(metavar="FILTER", help="Only these topics.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Only what arrived then or later.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Only what arrived before.")] = None,
    loop: Annotated[int, typer.Option(min=1, metavar="N", help="Play it so many times.")] = 1,
    drop: Annotated[float, typer.Option(metavar="SHARE", help="Share of messages that are lost.")] = 0.0,
    duplicate: Annotated[float, typer.Option(metavar="SHARE", help="That come twice.")] = 0.0,
    reorder: Annotated[float, typer.Option(metavar="SHARE", help="That come 1 to 10 messages later.")] = 0.0,
    delay: Annotated[float, typer.Option(metavar="SHARE", help="That come up to --delay-up-to later.")] = 0.0,
    delay_up_to: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="The longest delay, in recorded time.")
    ] = 60.0,
    corrupt: Annotated[
        float, typer.Option(metavar="SHARE", help="That have a wrong byte or lack their end.")
    ] = 0.0,
    cut_every: Annotated[
        int, typer.Option(min=0, metavar="N", help="Break the connection after every N messages.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same faults.")] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse what is no recorded message, instead of skipping it.")
    ] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Play recordings again, onto the broker or straight into the store.

    What `quantrac simulate --out FILE` wrote is a recording, too.
    """
    from simulators.faults import Faults
    from simulators.recording import Recordings
    from simulators.replay import Selection

    context = Context(data)
    setup_logging(context.common, "replay")
    if straight and cut_every:
        raise UsageError("--cut-every: there is no connection to cut with --straight")
    options: dict[str, Any] = {
        "speed": speed_of(speed),
        "selection": Selection(
            devices=device or (), topics=topic or (), since=_time("--from", start), until=_time("--to", end)
        ),
        "faults": Faults(drop, duplicate, reorder, delay, corrupt, timedelta(seconds=delay_up_to), seed),
        "shift_to": "now" if shift_to == "now" else _time("--shift-to", shift_to),
        "loop": loop,
        "cut_every": cut_every,
    }
    recordings = Recordings(files, strict=strict)
    with progress_bar("replay") as bar:
        summary = asyncio.run(_replay(recordings, context, straight, progress=bar, **options))
    if summary is None:
        typer.echo("stopped before the end", err=True)
        raise typer.Exit(1)
    _say_replayed(summary, as_json)


def anonymise(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings, or folders of them.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to: .ndjson or .ndjson.gz.")],
    key: Annotated[Path, typer.Option(metavar="KEYFILE", help="The secret key; made when there is none.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse what cannot be made anonymous; else it is left out.")
    ] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Copy recordings without EUIs, addresses, names and places.

    With the same key, a device stays the same device in all files. Who has the key can tell which it is.
    """
    from simulators.anonymise import Anonymiser, NotAnonymous
    from simulators.recording import Recording, Recordings

    setup_logging(Context(data).common, "anonymise")
    if out.is_dir() or not out.suffix:
        raise UsageError(f"--out: {out} is no file; write {out}.ndjson.gz")
    recordings = Recordings(files, strict=strict)
    anonymiser = Anonymiser(_key(key))
    recording = Recording(out)
    left_out = 0

    def anonymous() -> Iterator[Message]:
        nonlocal left_out
        for message in recordings:
            try:
                yield anonymiser.message(message)
            except NotAnonymous as error:
                if strict:
                    raise UsageError(f"{recordings.at}: {error}, so it cannot be made anonymous") from None
                left_out += 1

    with counter("messages written") as tell:
        written = _write(anonymous(), recording, tell)
    if as_json:
        typer.echo(json.dumps({"written": written, "left_out": left_out, "skipped": recordings.skipped}))
    else:
        typer.echo(
            f"{written:,} messages written; {left_out:,} left out, as they are no JSON;"
            f" {recordings.skipped:,} lines skipped",
            err=True,
        )


def _write(messages: Iterable[Message], recording: Recording, tell: Callable[[int], None]) -> int:
    """Write them all, or leave nothing behind; how many they were."""
    written, left = 0, iter(messages)
    try:
        while batch := list(islice(left, _BATCH)):
            recording.append(batch)
            written += len(batch)
            tell(written)
    except BaseException:
        recording.discard()
        raise
    recording.close()
    return written


class _Signals:
    """Inside, SIGINT and SIGTERM call `stop` instead of ending the process."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        self._before = {
            number: signal.signal(number, lambda *_: self._stop())
            for number in (signal.SIGINT, signal.SIGTERM)
        }

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


async def _replay(recordings: Any, context: Context, into_store: bool, **options: Any) -> Summary | None:
    from quantrac.protobuf_times import move_times
    from quantrac.straight import straight
    from simulators.publish import Publisher
    from simulators.replay import replay as play

    sink: Any
    if into_store:
        sink = straight(load(IngestSettings), context.store())
    else:
        sink = nullcontext(Publisher(parse_mqtt_url(context.broker_url("admin"))))
    playing = asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    try:
        async with sink as opened:
            return await play(recordings, opened, binary=move_times, **options)
    except asyncio.CancelledError:
        return None


def _say_recorded(recorded: Recorded, files: list[Path], as_json: bool) -> None:
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "messages": recorded.messages,
                    "bytes": recorded.bytes,
                    "reconnects": recorded.reconnects,
                    "files": [str(file) for file in files],
                }
            )
        )
        return
    size = sum(file.stat().st_size for file in files)
    typer.echo(
        f"{recorded.messages:,} messages, {recorded.bytes / 1e6:,.1f} MB of payload,"
        f" in {len(files)} files of {size / 1e6:,.1f} MB; {recorded.reconnects} reconnects",
        err=True,
    )


def _say_replayed(summary: Summary, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(summary.flat()))
        return
    struck = ", ".join(
        f"{count:,} {name}" for name, count in summary.flat().items() if count and name in _FAULTS
    )
    typer.echo(
        f"{summary.sent:,} of {summary.read:,} messages sent in {summary.seconds:,.1f} s"
        f" ({summary.sent / max(summary.seconds, 0.001):,.0f}/s)"
        + (f"; {struck}" if struck else "")
        + (f"; {summary.skipped:,} lines skipped" if summary.skipped else ""),
        err=True,
    )


_FAULTS = ("dropped", "duplicated", "reordered", "delayed", "corrupted", "cuts")


def _time(option: str, text: str | None) -> datetime | None:
    """Without an offset in UTC."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        example = "2026-11-01 or 2026-11-01T07:00+07:00"
        raise UsageError(f"{option}: {text!r} is no time; write {example}") from None


def _key(path: Path) -> bytes:
    """The key of the file; a new one when there is none."""
    import secrets

    from quantrac.embedded.files import write_private

    try:
        if not path.exists():
            write_private(path, secrets.token_urlsafe(_KEY_BYTES) + "\n")
        return path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"--key: {path} cannot be used: {error.strerror}") from None
