#!/bin/sh
# Writes Mosquitto's password file from MQTT_INGEST_PASSWORD, MQTT_NETWORK_PASSWORD and MQTT_MONITOR_PASSWORD.
#   as root: set-passwords.sh [FILE]              then restart or reload Mosquitto
#   in the container: set-passwords.sh --serve    writes it and becomes the broker
set -eu
serve=
if [ "${1:-}" = --serve ]; then serve=1 && shift; fi
file=${1:-/var/lib/mosquitto/passwords}
umask 077
# By a file: the arguments of a program can be read by every user of the machine.
printf '%s:%s\n' \
  ingest "${MQTT_INGEST_PASSWORD:?is not set}" \
  network "${MQTT_NETWORK_PASSWORD:?is not set}" \
  monitor "${MQTT_MONITOR_PASSWORD:?is not set}" >"$file.new"
mosquitto_passwd -U "$file.new"
if [ "$(id -u)" = 0 ] && id mosquitto >/dev/null 2>&1; then chown mosquitto: "$file.new"; fi
mv "$file.new" "$file"
if [ -n "$serve" ]; then
  # A new volume belongs to root, the broker runs as mosquitto.
  chown -R mosquitto: "$(dirname "$file")"
  # It does not need them, and they would be in its environment.
  unset MQTT_INGEST_PASSWORD MQTT_NETWORK_PASSWORD MQTT_MONITOR_PASSWORD
  exec mosquitto -c /etc/mosquitto/mosquitto.conf
fi
