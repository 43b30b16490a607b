"""Connections: how each one is set up, and the pools the services share."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import TupleRow, dict_row
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


def _options(statement_timeout: float | None) -> str:
    options = "-c timezone=UTC"
    if statement_timeout is not None:
        options += f" -c statement_timeout={int(statement_timeout * 1000)}"
    return options


def connect(
    url: str, *, application: str, autocommit: bool = False, statement_timeout: float | None = None
) -> psycopg.Connection[TupleRow]:
    """One synchronous connection in UTC; the caller closes it."""
    return psycopg.connect(
        url,
        autocommit=autocommit,
        application_name=application,
        options=_options(statement_timeout),
        **_KEEPALIVE,
    )


def async_pool(settings: StoreSettings, *, application: str) -> Pool:
    """An unopened pool of asynchronous connections whose rows are dictionaries.

    Use it as ``async with async_pool(…) as pool``; a broken connection is replaced, and whoever waits
    longer than ten seconds for one gets `psycopg_pool.PoolTimeout`.
    """
    return AsyncConnectionPool(
        settings.database_url,
        min_size=1,
        max_size=settings.database_pool,
        open=False,
        timeout=10,
        reconnect_timeout=2,  # the default backs off for minutes, long after the database is back
        kwargs={
            "application_name": application,
            "options": _options(settings.database_timeout),
            "row_factory": dict_row,
            "autocommit": True,
            **_KEEPALIVE,
        },
        check=AsyncConnectionPool.check_connection,
    )
