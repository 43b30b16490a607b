"""What rules would look at now: how many series each chooses, and names in them that nothing has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from alerting.rules import Rule
from alerting.watch import read_watch
from decoders.device_types import check_variables
from telemetry.store.pool import async_connect

_NAMES = {
    "stations": "SELECT code AS name FROM station",
    "kinds": "SELECT DISTINCT kind AS name FROM station",
    "basins": "SELECT DISTINCT basin AS name FROM station WHERE basin <> ''",
    "device_types": "SELECT id AS name FROM device_type",
}
_DEVICES = """
    SELECT d.id, d.variables, t.mapping FROM device d JOIN device_type t ON t.id = d.device_type
    WHERE d.status = 'active'
"""


async def unknown_names(url: str, rules: Iterable[Rule]) -> list[str]:
    """A sentence for each name in a rule's `where` that no station and no device type has."""
    sentences = []
    async with await async_connect(url, application="quantrac rules") as connection:
        known = {
            key: [row["name"] for row in await (await connection.execute(query)).fetchall()]
            for key, query in _NAMES.items()
        }
    for rule in rules:
        for key, names in known.items():
            for name in sorted(getattr(rule.where, key) - set(names)):
                near = difflib.get_close_matches(name, names, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                sentences.append(f"{rule.id}: where.{key}: nothing is called {name!r}{hint}")
    return sentences


async def series_of_rules(url: str) -> dict[str, int]:
    """How many series each enabled rule of the store chooses now: those that active devices can give.

    A rule that chooses none is not named. The choice is the alert engine's own.
    """
    chosen: dict[str, int] = {}
    async with await async_connect(url, application="quantrac rules") as connection:
        watch = await read_watch(connection, version=0)
        devices = await (await connection.execute(_DEVICES)).fetchall()
    ids = {key: id_ for id_, key in watch.metrics.items()}
    for device in devices:
        for metric, channel in _series(device["mapping"], device["variables"]):
            for watched in watch.of(device["id"], ids[metric], channel) if metric in ids else ():
                chosen[watched.rule.id] = chosen.get(watched.rule.id, 0) + 1
    return chosen


def _series(mapping: list[dict[str, Any]], variables: Mapping[str, float]) -> set[tuple[str, int]]:
    """Metric and channel of every entry whose variable the device has."""
    return {
        (entry["metric"], entry.get("channel", 0))
        for entry in mapping
        if not check_variables([entry], variables)[1]
    }
