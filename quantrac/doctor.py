"""What is wrong with an installation, and what to do about it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import aiomqtt
import psycopg

from ingest.settings import IngestSettings
from quantrac.context import ALL_SETTINGS, Context
from telemetry.errors import QuantracError
from telemetry.mqtt import parse_mqtt_url
from telemetry.settings import load, unknown_names
from telemetry.store.edition import Edition, detect
from telemetry.store.migrate import current_revision, newest_revision
from telemetry.store.pool import connect

_LEAST_FREE = 2 * 1024**3
_MOST_SKEW = 5.0
_MOSQUITTO = (
    "Mosquitto loses what it acknowledged since its last autosave when it is killed (30 minutes by default) "
    "and drops silently beyond 1,000 queued messages; deploy/mosquitto/mosquitto.conf sets both"
)
_HAS = {
    Edition.PLAIN: "no hypertables, compression or continuous aggregates: fine for some hundred sensors",
    Edition.APACHE: "hypertables, but no compression and no continuous aggregates",
    Edition.COMMUNITY: "everything",
}


class Finding(NamedTuple):
    """One thing looked at; `cure` is empty when there is nothing to do."""

    level: Literal["ok", "warning", "fault"]
    subject: str
    text: str
    cure: str = ""


def examine(context: Context) -> list[Finding]:
    """Look at everything; a fault in one place does not keep the others from being looked at."""
    return [*_settings(), *_disk(context), *_database(context), *_broker(context)]


def _settings() -> Iterator[Finding]:
    unknown = unknown_names(ALL_SETTINGS)
    for sentence in unknown:
        yield Finding("warning", "settings", sentence, "Correct or remove it; it has no effect.")
    if not unknown:
        yield Finding("ok", "settings", "every QUANTRAC_ variable is known")


def _disk(context: Context) -> Iterator[Finding]:
    folder = context.common.data_dir
    if not folder.exists():
        yield Finding("ok", "disk", f"{folder} does not exist yet")
        return
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**3:.1f} GiB free under {folder}"
    if free < _LEAST_FREE:
        yield Finding("warning", "disk", text, "Make room: a full disk stops the database and the broker.")
    else:
        yield Finding("ok", "disk", text)


def _database(context: Context) -> Iterator[Finding]:
    try:
        url = context.store().database_url
        asked = datetime.now(UTC)
        with connect(url, application="quantrac doctor", autocommit=True) as connection:
            row = connection.execute("SELECT clock_timestamp(), version()").fetchone()
            assert row is not None
            edition, revision = detect(connection), current_revision(connection)
            letters = connection.execute("SELECT lower('ĐỒNG NAI') = 'đồng nai'").fetchone() == (True,)
    except QuantracError as error:
        yield Finding("fault", "database", str(error), "See docs/reference/settings.md.")
        return
    except psycopg.Error as error:
        yield Finding(
            "fault",
            "database",
            " ".join(str(error).split()),
            "Start it, or correct QUANTRAC_DATABASE_URL.",
        )
        return
    yield Finding("ok", "database", f"{row[1].split(' on ')[0]}, {edition.value}: {_HAS[edition]}")
    if revision != newest_revision():
        yield Finding(
            "fault",
            "schema",
            f"{revision or 'none'}, this program needs {newest_revision()}",
            "Run `quantrac migrate`.",
        )
    else:
        yield Finding("ok", "schema", f"revision {revision}")
    if not letters:
        yield Finding(
            "warning",
            "database locale",
            "does not know the case of Vietnamese letters, so searching for names is case-sensitive",
            "Create the database with the locale C.UTF-8 or vi_VN.UTF-8.",
        )
    skew = abs((row[0] - asked).total_seconds())
    if skew > _MOST_SKEW:
        yield Finding(
            "warning",
            "clock",
            f"the database's clock is {skew:.0f} s off ours",
            "Run NTP (chrony) on both machines.",
        )
    else:
        yield Finding("ok", "clock", "ours and the database's agree")


def _broker(context: Context) -> Iterator[Finding]:
    try:
        settings = context.ingest()
        version = asyncio.run(_broker_version(settings.mqtt_url))
    except QuantracError as error:
        yield Finding("fault", "broker", str(error), "See docs/reference/settings.md.")
        return
    except (aiomqtt.MqttError, OSError, TimeoutError) as error:
        yield Finding("fault", "broker", str(error) or "no answer", "Start it, or correct QUANTRAC_MQTT_URL.")
        return
    yield Finding("ok", "broker", version or "answers; it does not tell its version")
    if version.startswith("mosquitto") and load(IngestSettings).mqtt_url:
        yield Finding("warning", "broker queue", _MOSQUITTO, "Compare its configuration with ours.")


async def _broker_version(url: str) -> str:
    """What the broker says of itself in $SYS, where our user may read it; empty otherwise."""
    address = parse_mqtt_url(url)
    async with aiomqtt.Client(
        address.host,
        address.port,
        username=address.username,
        password=address.password,
        tls_params=aiomqtt.TLSParameters() if address.tls else None,
        timeout=5,
    ) as client:
        await client.subscribe("$SYS/broker/version")
        try:
            async with asyncio.timeout(1):
                async for message in client.messages:
                    return bytes(message.payload or b"").decode("utf-8", "replace")
        except TimeoutError:
            return ""
    return ""
