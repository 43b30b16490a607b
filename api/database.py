"""The kind of connection every query of this room runs on."""

from __future__ import annotations

import psycopg

from telemetry.store.pool import DictRow

Connection = psycopg.AsyncConnection[DictRow]
"""Asynchronous, in autocommit, rows as dictionaries: changes go inside ``async with db.transaction()``."""

# Who finds no connection in this time is told to come back; the pool's own limit is longer.
CONNECTION_SECONDS = 3.0
