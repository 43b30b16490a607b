#!/usr/bin/env bash
# Runs a command against a real TimescaleDB of its own: QUANTRAC_TEST_DATABASE_URL names it meanwhile.
# usage: tests/tools/with-timescaledb.sh COMMAND…
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${XDG_CACHE_HOME:-/var/tmp}/quantrac-timescaledb-$(id -u)
[ -x "$home/start" ] || "$here/timescaledb.sh" "$home"
data=$(mktemp -d /var/tmp/quantrac-timescaledb-data.XXXXXX)
chmod 711 "$data"
trap '"$home/stop" "$data/cluster" || true; rm -rf "$data"' EXIT
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
QUANTRAC_TEST_DATABASE_URL=$("$home/start" "$data/cluster" "$port")
export QUANTRAC_TEST_DATABASE_URL
"$@"
