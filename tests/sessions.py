"""Conditions that keep a look at the server's sessions and locks to the test's own database.

Tests that run side by side share one server, and their databases, copies of one template, have tables of
the same oid.
"""

OURS = "datname = current_database()"
"""Of `pg_stat_activity`."""
WAITING = f"SELECT pid FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'"
"""A row for each session that waits for a lock."""
LOCKED_HERE = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
"""Of `pg_locks`."""
