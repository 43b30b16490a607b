"""Batches that take too long, or wait for a lock in vain: no message waits for the few whose fault that is.

So for a late reading whose chunk is being compressed, or a device that somebody works on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, LiteralString

import psycopg

from telemetry.model import Reject
from telemetry.store.writer import Written, registry_version

from .faults import is_held_up
from .layout import Item

# Who waited once for the locks of a batch need not do so again for each of its parts.
BRIEFLY: LiteralString = "SELECT set_config('lock_timeout', '1s', true)"
_AT_LEISURE: LiteralString = f"{BRIEFLY}, set_config('statement_timeout', '0', true)"
_PARTS = 16
_TABLES = ("uplink", "reading", "event", "message_block")
# No row, but the lock that a row takes; LOCK TABLE would lock the chunks as well.
_PROBES = tuple(f"INSERT INTO {name} (time) SELECT now() WHERE false" for name in _TABLES)

Store = Callable[[Sequence[Item], LiteralString], Written]
"""Store these within the limits that a statement sets."""


def probe(connection: psycopg.Connection[Any]) -> None:
    """See that anybody can store anything at all.

    Raises:
        psycopg.errors.LockNotAvailable: a whole table is locked, or the registry.
    """
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(BRIEFLY)
        registry_version(cursor)
        for statement in _PROBES:
            cursor.execute(statement)


def store_in_parts(items: Sequence[Item], store: Store) -> tuple[Written, list[Item]]:
    """Halve until the parts can be stored; returns what was, and those that are locked.

    The smallest parts, a sixteenth, take as long as they need. Those of a day stay together, as their chunks
    are the same.
    """
    least = max(1, len(items) // _PARTS)
    written, locked = [Written(0, 0, 0, 0)], list[Item]()
    waiting = [sorted(items, key=_day)]
    while waiting:
        part = waiting.pop()
        small = len(part) <= least
        try:
            written.append(store(part, _AT_LEISURE if small else BRIEFLY))
        except Exception as error:
            if not is_held_up(error):
                raise
            if small:
                locked += part
            else:
                middle = len(part) // 2
                waiting += (part[middle:], part[:middle])
    return Written(*map(sum, zip(*written, strict=True))), locked


def _day(item: Item) -> date:
    message, outcome = item
    time = None if isinstance(outcome, Reject) else outcome.time
    return (time or message.received_at).date()
