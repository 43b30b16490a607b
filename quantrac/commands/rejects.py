"""`rejects`: messages nothing could be made of; look at them, have them tried again, put them aside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import psycopg
import typer

from quantrac.commands.options import AsJson, Data
from quantrac.context import Context
from quantrac.texts import printable
from telemetry.errors import UsageError
from telemetry.store.pool import async_connect

if TYPE_CHECKING:
    from api.rejects import RejectKind, Wish

T = TypeVar("T")
Connection = psycopg.AsyncConnection[dict[str, Any]]
DUMPED_BYTES = 4096

Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", min=1, help="Which ones, by number.")]
Reason = Annotated[str | None, typer.Option(help="All open ones with this reason instead of some by number.")]
Network = Annotated[str | None, typer.Option(help="Only those of this network server's format.")]
Device = Annotated[str | None, typer.Option(metavar="DEV_EUI", help="Only those of this device.")]
Before = Annotated[datetime | None, typer.Option(help="Only those that came before this time (UTC).")]


def add_to(app: typer.Typer) -> None:
    rejects = typer.Typer(
        no_args_is_help=True, help="Messages nothing could be made of; docs/how-to/rejects.md."
    )
    rejects.command("list")(list_)
    rejects.command("show")(show)
    rejects.command("retry")(retry)
    rejects.command("dismiss")(dismiss)
    app.add_typer(rejects, name="rejects", rich_help_panel="State")


def list_(
    reason: Annotated[str | None, typer.Option(help="Only those with this reason.")] = None,
    state: Annotated[str, typer.Option(help="open, waiting, retried, dismissed or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """List rejects, newest first."""
    from api.rejects import RejectState, RejectView, list_rejects
    from api.where import Where

    if state != "all" and state not in get_args(RejectState):
        raise UsageError(f"--state: {state!r} is none of {', '.join(get_args(RejectState))}, all")
    where = Where(fetch=limit)
    where.add("reason = %(reason)s", reason=reason)
    where.add("state = %(state)s", state=None if state == "all" else state)
    rows = [
        RejectView.model_validate(row) for row in _with_database(data, lambda db: list_rejects(db, where))
    ]
    if as_json:
        _print_json([row.model_dump(mode="json") for row in rows])
        return
    for row in rows:
        what = f"{row.state:<9}  {row.reason:<15}  {row.dev_eui or '-':<16}  {printable(row.detail)}"
        typer.echo(f"{row.id:>8}  {row.received_at:%Y-%m-%d %H:%M:%S}  {what}")
    if not rows:
        typer.echo("none")


def show(
    number: Annotated[int, typer.Argument(metavar="ID", min=1, help="Its number.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the message as it came, all of it, here.")
    ] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Show one reject with its message in hex and text: the beginning of it, when it is long."""
    from api.rejects import read_message, read_reject

    if out is not None:
        message = _with_database(data, lambda db: read_message(db, number))
        try:
            out.write_bytes(message)
        except OSError as error:
            raise UsageError(f"--out: {out}: cannot be written ({error.strerror})") from None
        typer.echo(f"{out}: {len(message)} bytes")
        return
    found = _with_database(data, lambda db: read_reject(db, number))
    if as_json:
        _print_json(found.model_dump(mode="json"))
        return
    for name, value in found.model_dump(
        exclude={"message", "message_hex", "message_text", "truncated"}
    ).items():
        typer.echo(f"{name:<12} {'-' if value is None else printable(str(value))}")
    beginning = bytes.fromhex(found.message_hex)[:DUMPED_BYTES]
    typer.echo("")
    for line in beginning.decode("utf-8", "replace").splitlines():
        typer.echo(printable(line))
    typer.echo("")
    for line in hex_dump(beginning):
        typer.echo(line)
    if len(beginning) < found.size:
        typer.echo(f"… {found.size - len(beginning)} bytes more; --out FILE writes all of them")


def retry(
    numbers: Ids = None,
    reason: Reason = None,
    network: Network = None,
    device: Device = None,
    before: Before = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Have ingest try rejects again: some by number, or all open ones of a reason."""
    changed = _change(data, "waiting", numbers, reason, network, device, before)
    _tell(as_json, {"waiting": changed}, f"{changed} wait to be tried again")


def dismiss(
    numbers: Ids = None,
    reason: Reason = None,
    network: Network = None,
    device: Device = None,
    before: Before = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Put rejects aside, to be deleted after a week: some by number, or all open ones of a reason."""
    changed = _change(data, "dismissed", numbers, reason, network, device, before)
    _tell(as_json, {"dismissed": changed}, f"{changed} dismissed")


def hex_dump(data: bytes) -> list[str]:
    """Sixteen bytes a line: offset, hexadecimal, and the ASCII letters among them."""
    lines = []
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {letters}")
    return lines


def _change(
    data: Data,
    wish: Wish,
    numbers: list[int] | None,
    reason: str | None,
    network: str | None,
    device: str | None,
    before: datetime | None,
) -> int:
    from api.rejects import change_kind, change_one

    narrowed = network is not None or device is not None or before is not None
    if bool(numbers) == (reason is not None) or (numbers and narrowed):
        raise UsageError("name rejects by their numbers, or a whole kind of them with --reason")
    if reason is not None:
        kind = _kind(reason, network, device, before)
        return _with_database(data, lambda db: change_kind(db, kind, wish))

    async def each(db: Connection) -> int:
        for number in sorted(set(numbers or [])):
            await change_one(db, number, wish)
        return len(set(numbers or []))

    return _with_database(data, each)


def _kind(reason: str, network: str | None, device: str | None, before: datetime | None) -> RejectKind:
    from pydantic import ValidationError

    from api.rejects import RejectKind

    values = {
        "reason": reason,
        "network": network,
        "dev_eui": device,
        "before": before and before.replace(tzinfo=UTC),
    }
    try:
        return RejectKind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = {"dev_eui": "device"}.get(str(first["loc"][0]), str(first["loc"][0]))
        raise UsageError(f"--{option}: {first['msg'].removeprefix('Value error, ')}") from None


def _with_database(data: Data, action: Callable[[Connection], Awaitable[T]]) -> T:
    url = Context(data).store().database_url

    async def run() -> T:
        async with await async_connect(url, application="quantrac rejects") as connection:
            return await action(connection)

    return asyncio.run(run())


def _tell(as_json: bool, answer: dict[str, int], sentence: str) -> None:
    if as_json:
        _print_json(answer)
    else:
        typer.echo(sentence)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))
