"""The demonstration: a scenario's stations, devices and rules, a day of history, and the simulator itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import psycopg

from alerting.rules import Rule
from decoders.device_types import check_variables
from simulators.publish import Publisher
from simulators.scenario import Registrations, Scenario
from simulators.servers import Format
from simulators.traffic import history
from telemetry.clock import Clock
from telemetry.errors import UsageError
from telemetry.mqtt import MqttAddress
from telemetry.store.master import ask_for_decoding, save_device, save_rule, save_station
from telemetry.store.pool import connect


def register(url: str, registrations: Registrations, rules: Iterable[Rule]) -> None:
    """Write a scenario's master data, all or nothing; done before, it changes nothing that matters.

    Raises:
        UsageError: a real station or device has one of its codes or EUIs.
    """
    with connect(url, application="quantrac demo") as connection, connection.cursor() as cursor:
        _refuse_real(cursor, registrations)
        for station in registrations.stations:
            save_station(cursor, asdict(station))
        for device in registrations.devices:
            saved = save_device(cursor, asdict(device), check_variables)
            ask_for_decoding(cursor, saved.id, "demo")
        for rule in rules:
            save_rule(cursor, rule.to_dict(), "demo")


def _refuse_real(cursor: psycopg.Cursor[Any], registrations: Registrations) -> None:
    """Simulated values must never stand in a real series, nor a real place pass for a simulated one."""
    codes = [station.code for station in registrations.stations]
    euis = [device.dev_eui for device in registrations.devices]
    cursor.execute(
        "SELECT 'station ' || code FROM station WHERE code = ANY(%s) AND NOT simulated"
        " UNION ALL SELECT 'device ' || dev_eui FROM device"
        " WHERE dev_eui = ANY(%s) AND NOT simulated AND status <> 'unregistered' ORDER BY 1",
        (codes, euis),
    )
    if real := [name for (name,) in cursor.fetchall()]:
        raise UsageError(
            f"{', '.join(real)}: registered here, and not as simulated. Give the scenario codes and EUIs of "
            "its own, or use another database."
        )


def has_readings(url: str) -> bool:
    """Whether anything was measured yet, and a made-up past would mix with it."""
    with connect(url, application="quantrac demo") as connection:
        return connection.execute("SELECT FROM latest LIMIT 1").rowcount > 0


async def publish_history(
    scenario: Scenario, hours: float, address: MqttAddress, clock: Clock, seed: int, fmt: Format | None = None
) -> int:
    """Publish what the sensors would have said in the hours before now; too old to page anybody."""
    publisher = Publisher(address)
    publishing = asyncio.create_task(publisher.run(), name="demo-history")
    try:
        for message in history(scenario, clock.now(), hours, seed=seed, fmt=fmt):
            await publisher.put(message)
        draining = asyncio.create_task(publisher.drained(), name="demo-history-drain")
        await asyncio.wait({draining, publishing}, return_when=asyncio.FIRST_COMPLETED)
        if publishing.done():
            publishing.result()
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    return publisher.published
