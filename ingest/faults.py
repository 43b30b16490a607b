"""Whom an error blames: what one message holds, the database that is away, or one that is held up."""

from __future__ import annotations

import psycopg

_OF_A_ROW = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)


def blames_content(error: Exception) -> bool:
    """Whether trying again is in vain; else the database is away, busy or not migrated."""
    return not isinstance(error, psycopg.Error) or isinstance(error, _OF_A_ROW)


def is_away(error: Exception) -> bool:
    """Whether the database is away, shutting down, or not migrated yet: that passes by itself.

    A statement that takes too long, a lock that stays taken or a full disk has a class of its own
    (https://www.postgresql.org/docs/current/errcodes-appendix.html), and somebody has to know of it.
    """
    if isinstance(error, psycopg.errors.UndefinedTable):
        return True
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
