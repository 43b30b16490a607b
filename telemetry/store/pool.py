"""Connections: how each one is set up, and the pools the services share.

Nothing here needs a session that stays with its server process, so PgBouncer in transaction mode may stand
between.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.rows import TupleRow, dict_row, tuple_row
from psycopg_pool import AsyncConnectionPool

from ..settings import StoreSettings

DictRow = dict[str, Any]
Pool = AsyncConnectionPool[psycopg.AsyncConnection[DictRow]]

_KEEPALIVE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


class Limits(NamedTuple):
    """Seconds after which the server ends a statement, a wait for a lock, an idle transaction; 0: never."""

    statement: float = 0.0
    lock: float = 0.0
    idle: float = 0.0


UNLIMITED = Limits()


def api_limits(settings: StoreSettings) -> Limits:
    """Of the API's connections, its intake's and its replica's included."""
    return Limits(settings.database_timeout, settings.database_lock_timeout, settings.database_idle_timeout)


def writer_limits(settings: StoreSettings) -> Limits:
    """Of the one connection that ingest stores messages over."""
    return api_limits(settings)._replace(statement=settings.database_writer_timeout)


def worker_limits(settings: StoreSettings) -> Limits:
    """Of whatever works beside: ingest's workers, alerting, delivery."""
    return api_limits(settings)._replace(statement=settings.database_worker_timeout)


# A pooler answers with a process number of its own; what were set through it would stay with whatever session
# of the server took the statement, and hold for all that use it later.
_SETTLE: LiteralString = """
    SELECT CASE WHEN pg_backend_pid() = %(pid)s THEN
        set_config('TimeZone', 'UTC', false)
        || set_config('statement_timeout', %(statement)s, false)
        || set_config('lock_timeout', %(lock)s, false)
        || set_config('idle_in_transaction_session_timeout', %(idle)s, false)
    END
"""
# PgBouncer keeps the time zone of each client, as the server reports its changes.
_POOLED = "SET TimeZone TO 'UTC'"


def _settling(pid: int, limits: Limits) -> dict[str, Any]:
    milliseconds = {name: str(int(seconds * 1000)) for name, seconds in limits._asdict().items()}
    return {"pid": pid, **milliseconds}


def limit(connection: psycopg.Connection[Any], limits: Limits) -> None:
    """Set limits for the present transaction: these hold behind a pooler, too."""
    values = _settling(0, limits)
    connection.execute(
        "SELECT set_config('statement_timeout', %(statement)s, true),"
        " set_config('lock_timeout', %(lock)s, true),"
        " set_config('idle_in_transaction_session_timeout', %(idle)s, true)",
        values,
    )


def is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether a pooler (PgBouncer) stands between us and the server."""
    cursor = connection.cursor(row_factory=tuple_row)
    return cursor.execute("SELECT pg_backend_pid()").fetchone() != (connection.info.backend_pid,)


def connect(
    url: str, *, application: str, autocommit: bool = False, limits: Limits = UNLIMITED
) -> psycopg.Connection[TupleRow]:
    """One synchronous connection in UTC; the caller closes it.

    Behind a pooler it prepares no statements, and the limits are those of the database's role.
    """
    connection = psycopg.connect(url, autocommit=True, application_name=application, **_KEEPALIVE)
    try:
        settled = connection.execute(_SETTLE, _settling(connection.info.backend_pid, limits)).fetchone()
        if settled == (None,):
            connection.execute(_POOLED)
            connection.prepare_threshold = None
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


async def async_connect(
    url: str, *, application: str, autocommit: bool = False, limits: Limits = UNLIMITED
) -> psycopg.AsyncConnection[DictRow]:
    """As `connect`, asynchronous, with rows as dictionaries."""
    connection = await psycopg.AsyncConnection.connect(
        url, autocommit=True, application_name=application, row_factory=dict_row, **_KEEPALIVE
    )
    try:
        await _configure(limits)(connection)
        await connection.set_autocommit(autocommit)
    except BaseException:
        await connection.close()
        raise
    return connection


def _configure(limits: Limits) -> Callable[[psycopg.AsyncConnection[DictRow]], Awaitable[None]]:
    async def configure(connection: psycopg.AsyncConnection[DictRow]) -> None:
        cursor = connection.cursor(row_factory=tuple_row)
        await cursor.execute(_SETTLE, _settling(connection.info.backend_pid, limits))
        if await cursor.fetchone() == (None,):
            await cursor.execute(_POOLED)
            connection.prepare_threshold = None

    return configure


async def _check(connection: psycopg.AsyncConnection[DictRow]) -> None:
    """The pool's own check, only when the server has said anything since the last answer.

    Whoever ends a session says so, and keepalives tell of a server that fell silent: asking each time would
    cost every request a round trip.
    """
    said = select.poll()
    said.register(connection.fileno(), select.POLLIN)
    if said.poll(0):
        await AsyncConnectionPool.check_connection(connection)


def async_pool(
    settings: StoreSettings, *, application: str, limits: Limits | None = None, url: str = ""
) -> Pool:
    """An unopened pool of asynchronous connections whose rows are dictionaries.

    Use it as ``async with async_pool(…) as pool``; a broken connection is replaced, and whoever waits
    longer than ten seconds for one gets `psycopg_pool.PoolTimeout`. The limits are the API's unless given;
    `url` is another database's than the settings' primary.
    """
    return AsyncConnectionPool(
        url or settings.database_url,
        min_size=1,
        max_size=settings.database_pool,
        open=False,
        timeout=10,
        reconnect_timeout=2,  # the default backs off for minutes, long after the database is back
        kwargs={
            "application_name": application,
            "row_factory": dict_row,
            "autocommit": True,
            **_KEEPALIVE,
        },
        configure=_configure(api_limits(settings) if limits is None else limits),
        check=_check,
    )
