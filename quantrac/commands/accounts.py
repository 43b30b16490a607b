"""`user` and `key`: who may use the API and the page."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import psycopg
import typer

from api.roles import KeyRole, Role
from quantrac.commands.options import Data
from quantrac.context import Context
from telemetry.errors import UsageError
from telemetry.store.pool import async_connect

T = TypeVar("T")
_LOGIN = re.compile(r"[\w.@+-]{1,100}")
_ROLE = "viewer < operator < engineer < admin."
_KEY_ROLE = (
    f"{_ROLE} Beside them: intake, for a network server that posts to /intake and may do nothing else."
)


def add_to(app: typer.Typer) -> None:
    user = typer.Typer(no_args_is_help=True, help="Accounts of people.")
    user.command("add")(user_add)
    user.command("password")(user_password)
    app.add_typer(user, name="user", rich_help_panel="Access")
    key = typer.Typer(no_args_is_help=True, help="Keys of programs.")
    key.command("create")(key_create)
    app.add_typer(key, name="key", rich_help_panel="Access")


def user_add(
    login: str,
    role: Annotated[Role, typer.Option(help=_ROLE)] = "viewer",
    data: Data = None,
) -> None:
    """Add an account; its first password is printed once and must be changed at the first login."""
    from api.accounts import add_account

    if not _LOGIN.fullmatch(login):
        raise UsageError(f"login: {login!r}: letters, digits and . _ @ + - are needed, at most 100")
    password = secrets.token_urlsafe(12)
    _with_database(data, lambda db: add_account(db, login=login, password=password, role=role))
    typer.echo(password)


def user_password(login: str, data: Data = None) -> None:
    """Give an account a new first password, printed once; who is logged in with it is logged out."""
    from quantrac.up import ADMIN_FILE

    password = secrets.token_urlsafe(12)
    _with_database(data, lambda db: _replace_password(db, login, password))
    if login == "admin":  # `up` shows this file's password for as long as it has to be changed
        (Context(data).common.data_dir / ADMIN_FILE).unlink(missing_ok=True)
    typer.echo(password)


async def _replace_password(
    db: psycopg.AsyncConnection[dict[str, object]], login: str, password: str
) -> None:
    from api.credentials import hash_password

    cursor = await db.execute(
        "UPDATE account SET password_hash = %s, must_change = true WHERE login = %s RETURNING id",
        (hash_password(password), login),
    )
    account = await cursor.fetchone()
    if account is None:
        raise UsageError(f"login: there is no account {login!r}")
    await db.execute("DELETE FROM session WHERE account_id = %s", (account["id"],))
    await db.execute("DELETE FROM login_failure WHERE login = %s", (login,))


def key_create(
    role: Annotated[KeyRole, typer.Option(help=_KEY_ROLE)],
    name: Annotated[str, typer.Option(help="What or whom the key is for.")],
    data: Data = None,
) -> None:
    """Create an API key and print it, once, on stdout: `Authorization: Bearer qt_…`."""
    from pydantic import TypeAdapter, ValidationError

    from api.accounts import add_key
    from api.fields import Name

    try:
        name = TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise UsageError(f"--name: {name[:60]!r}: {error.errors()[0]['msg']}") from None
    _, key = _with_database(data, lambda db: add_key(db, name=name, role=role, created_by="command line"))
    typer.echo(key)


def _with_database(
    data: Data, action: Callable[[psycopg.AsyncConnection[dict[str, object]]], Awaitable[T]]
) -> T:
    url = Context(data).store().database_url

    async def run() -> T:
        async with await async_connect(url, application="quantrac accounts") as connection:
            return await action(connection)

    return asyncio.run(run())
