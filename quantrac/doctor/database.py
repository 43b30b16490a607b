"""The database: its edition, schema, letters and clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg

from quantrac.context import Context
from telemetry.errors import QuantracError
from telemetry.store.edition import detect
from telemetry.store.migrate import current_revision, newest_revision
from telemetry.store.pool import connect
from telemetry.store.refusal import cure

from .edition import HAS, check_edition
from .finding import Finding

_MOST_SKEW = 5.0


def check_database(context: Context) -> Iterator[Finding]:
    try:
        url = context.store().database_url
        asked = datetime.now(UTC)
        with connect(url, application="quantrac doctor", autocommit=True) as connection:
            row = connection.execute("SELECT clock_timestamp(), version()").fetchone()
            assert row is not None
            edition, revision = detect(connection), current_revision(connection)
            told = list(check_edition(connection, edition)) if revision == newest_revision() else []
            letters = connection.execute("SELECT lower('ĐỒNG NAI') = 'đồng nai'").fetchone() == (True,)
    except QuantracError as error:
        yield Finding("fault", "database", str(error), "See docs/reference/settings.md.")
        return
    except psycopg.Error as error:
        problem = " ".join(str(error).split())
        yield Finding(
            "fault", "database", problem, cure(error) or "Start it, or correct QUANTRAC_DATABASE_URL."
        )
        return
    yield Finding("ok", "database", f"{row[1].split(' on ')[0]}, {edition.value}: {HAS[edition]}")
    yield from told
    yield _schema(revision)
    if not letters:
        yield Finding(
            "warning",
            "database locale",
            "does not know the case of Vietnamese letters, so searching for names is case-sensitive",
            "Create the database with the locale C.UTF-8 or vi_VN.UTF-8.",
        )
    yield _clock(abs((row[0] - asked).total_seconds()))


def _schema(revision: str | None) -> Finding:
    if revision == newest_revision():
        return Finding("ok", "schema", f"revision {revision}")
    text = f"{revision or 'none'}, this program needs {newest_revision()}"
    return Finding("fault", "schema", text, "Run `quantrac migrate`.")


def _clock(skew: float) -> Finding:
    if skew <= _MOST_SKEW:
        return Finding("ok", "clock", "ours and the database's agree")
    text = f"the database's clock is {skew:.0f} s off ours"
    return Finding("warning", "clock", text, "Run NTP (chrony) on both machines.")
