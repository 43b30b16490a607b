"""Who publishes at QoS 0, and so promises no delivery."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import structlog
from prometheus_client import Counter

from .metrics import QOS0
from .text import storable

_log = structlog.get_logger()
MOST_ROOTS = 200
OTHERS = "others"
_TELL_EVERY = timedelta(hours=1)
_MOST_LETTERS = 200
_UPSERT = """
    INSERT INTO qos_watch (root, messages, first_at, last_at) VALUES (%s, %s, %s, %s)
    ON CONFLICT (root) DO UPDATE SET
        messages = qos_watch.messages + excluded.messages,
        first_at = least(qos_watch.first_at, excluded.first_at),
        last_at = greatest(qos_watch.last_at, excluded.last_at)
"""


def cure(root: str) -> str:
    """What the owner of the topics below `root` has to change.

    Sources: ChirpStack v4 https://www.chirpstack.io/docs/chirpstack/configuration.html, v3
    https://www.chirpstack.io/application-server/install/config/, The Things Stack
    https://www.thethingsindustries.com/docs/integrations/other-integrations/mqtt/.
    """
    if root.split("/")[0] == "v3":
        return (
            "The Things Stack's own MQTT server speaks QoS 0 only: use its webhooks (docs/how-to/"
            "the-things-stack.md), or let its Storage Integration fill the gaps."
        )
    return (
        "Set qos=1 in ChirpStack: v4 in chirpstack.toml under [integration.mqtt], v3 in "
        "chirpstack-application-server.toml under [application_server.integration.mqtt]; then restart it."
    )


@dataclass(slots=True)
class _Root:
    name: str
    counter: Counter
    first_at: datetime
    last_at: datetime
    told_at: datetime
    seen: int = 0
    written: int = 0
    writing: int = 0


class QosWatch:
    """Counts messages at QoS 0 by the first two levels of their topic; at most `MOST_ROOTS` of them apart.

    `seen` belongs to the event loop, `flush` and `flushed` to whichever thread writes.
    """

    def __init__(self) -> None:
        self._roots: dict[str, _Root] = {}

    def seen(self, topic: str, at: datetime) -> None:
        """Count one message; says so in the log the first time, then at most hourly for each root."""
        key = "/".join(topic.split("/", 2)[:2])
        root = self._roots.get(key) or self._add(key, at)
        root.seen += 1
        root.last_at = at
        root.counter.inc()
        if root.seen == 1 or at - root.told_at >= _TELL_EVERY:
            root.told_at = at
            _log.warning("published_at_qos_0", root=root.name, messages=root.seen, cure=cure(root.name))

    def flush(self, cursor: psycopg.Cursor[Any]) -> None:
        """Add what was not written yet to `qos_watch`; after the COMMIT call `flushed`."""
        rows = []
        roots = list(self._roots.values())  # at once: `seen` may add some meanwhile
        for root in sorted(roots, key=lambda one: one.name):
            root.writing = root.seen
            if root.writing > root.written:
                rows.append((root.name, root.writing - root.written, root.first_at, root.last_at))
        if rows:
            cursor.executemany(_UPSERT, rows)

    def flushed(self) -> None:
        for root in list(self._roots.values()):
            root.written = root.writing

    def _add(self, key: str, at: datetime) -> _Root:
        if len(self._roots) >= MOST_ROOTS:
            key = OTHERS
            if key in self._roots:
                return self._roots[key]
        name = storable(key)[:_MOST_LETTERS]
        root = self._roots[key] = _Root(name, QOS0.labels(name), at, at, at)
        return root
