#!/bin/sh
# Makes a virtual environment; on a bare Debian the module for it is a package of its own.
# usage: deploy/make-venv.sh PYTHON FOLDER
set -eu
python=$1 folder=$2
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Quantrac needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2
  exit 1
}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing python3-venv" >&2
    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install python3-venv >/dev/null
  else
    echo "Python's venv module is missing; install it: sudo apt-get install python3-venv" >&2
    exit 1
  fi
fi
"$python" -m venv --clear "$folder"
