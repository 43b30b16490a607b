#!/bin/sh
# What the tests need and no wheel brings: Mosquitto with its clients, PgBouncer, and Chromium for the page.
set -eu
missing=
command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing="mosquitto"
command -v mosquitto_pub >/dev/null || missing="$missing mosquitto-clients"
command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || missing="$missing pgbouncer"
command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing="$missing chromium"
[ -z "$missing" ] && exit 0
run=
[ "$(id -u)" = 0 ] || run=sudo
if ! command -v apt-get >/dev/null || { [ -n "$run" ] && ! command -v sudo >/dev/null; }; then
  echo "The tests need:$missing. Install it and run make test again." >&2
  exit 1
fi
echo "installing $missing" >&2
$run apt-get -qq update
# A policy file keeps the packaged services from starting: each test runs servers of its own.
policy=/usr/sbin/policy-rc.d
[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' | $run tee $policy >/dev/null; $run chmod +x $policy; made=1; }
status=0
# shellcheck disable=SC2086  # a list of packages
$run env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $missing >/dev/null || status=$?
[ -z "${made:-}" ] || $run rm -f $policy
exit $status
