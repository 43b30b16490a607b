"""COMMIT as something that waits until the test lets it through."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

from tests.wait import until

from .database import Database

_GATE = 4711  # the number of the lock


class Gate:
    """Holds every COMMIT that brings uplinks until it is let through.

    A deferred trigger takes a lock, at COMMIT, that this keeps from it. So a COMMIT is delayed for as
    long as the test wants, and the test sees that one is under way.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        database.ask(
            f"CREATE FUNCTION chaos_gate() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_advisory_xact_lock_shared({_GATE}); RETURN NULL; END $$"
        )
        database.ask(
            "CREATE CONSTRAINT TRIGGER chaos_gate AFTER INSERT ON uplink DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION chaos_gate()"
        )
        self._holding = database.connect()
        _lock(self._holding)

    async def waited_for(self) -> int:
        """Wait until a COMMIT waits here; the process id of its backend."""
        rows = await until(
            lambda: self._database.ask(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s"
                " AND mode = 'ShareLock' AND NOT granted",
                _GATE,
            )
        )
        return int(rows[0][0])

    async def pass_one(self) -> None:
        """Let the COMMIT that waits through, and hold the next."""
        await self.waited_for()
        # Locks are given in the order they were asked for: the waiting COMMIT's first, then ours again.
        following = self._database.connect()
        pid = following.info.backend_pid
        asking = asyncio.create_task(asyncio.to_thread(_lock, following))
        await until(lambda: self._database.ask("SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted", pid))
        self._holding.close()
        await asking
        self._holding = following

    def open(self) -> None:
        """Let everything through from now on."""
        self._holding.close()


def _lock(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT pg_advisory_lock(%s)", (_GATE,))
