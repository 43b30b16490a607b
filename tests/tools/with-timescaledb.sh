#!/usr/bin/env bash
# Runs a command against a real TimescaleDB of its own: QUANTRAC_TEST_DATABASE_URL names it meanwhile.
# usage: tests/tools/with-timescaledb.sh COMMAND…
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${XDG_CACHE_HOME:-/var/tmp}/quantrac-timescaledb-$(id -u)
[ -x "$home/start" ] || "$here/timescaledb.sh" "$home"
# In memory where there is room: making and dropping databases is most of what the server does.
place=/var/tmp
[ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)" -gt 4194304 ] 2>/dev/null && place=/dev/shm
data=$(mktemp -d "$place/quantrac-timescaledb-data.XXXXXX")
chmod 711 "$data"
trap '"$home/stop" "$data/cluster" || true; rm -rf "$data"' EXIT
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
QUANTRAC_TEST_DATABASE_URL=$("$home/start" "$data/cluster" "$port")
export QUANTRAC_TEST_DATABASE_URL
"$home/run" psql -qXo /dev/null "$QUANTRAC_TEST_DATABASE_URL" \
  -c 'ALTER SYSTEM SET synchronous_commit = off' -c 'ALTER SYSTEM SET full_page_writes = off' \
  -c 'ALTER SYSTEM SET max_wal_size = 256' -c 'ALTER SYSTEM SET min_wal_size = 64' -c 'SELECT pg_reload_conf()'
"$@"
