"""`user` and `key`: who may use the API and the page."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import psycopg
import typer
from psycopg.rows import dict_row

from api.roles import Role
from quantrac.commands.options import Data
from quantrac.context import Context

T = TypeVar("T")
_ROLE = "viewer < operator < engineer < admin."


def add_to(app: typer.Typer) -> None:
    user = typer.Typer(no_args_is_help=True, help="Accounts of people.")
    user.command("add")(user_add)
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

    password = secrets.token_urlsafe(12)
    _with_database(data, lambda db: add_account(db, login=login, password=password, role=role))
    typer.echo(password)


def key_create(
    role: Annotated[Role, typer.Option(help=_ROLE)],
    name: Annotated[str, typer.Option(help="What or whom the key is for.")],
    data: Data = None,
) -> None:
    """Create an API key and print it, once, on stdout: `Authorization: Bearer qt_…`."""
    from api.accounts import add_key

    _, key = _with_database(data, lambda db: add_key(db, name=name, role=role, created_by="command line"))
    typer.echo(key)


def _with_database(
    data: Data, action: Callable[[psycopg.AsyncConnection[dict[str, object]]], Awaitable[T]]
) -> T:
    url = Context(data).store().database_url

    async def run() -> T:
        async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
            return await action(connection)

    return asyncio.run(run())
