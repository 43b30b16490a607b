"""Whom an error blames: what one message holds, or the database as a whole."""

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
