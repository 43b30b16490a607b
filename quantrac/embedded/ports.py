"""Ports that stay the same from start to start."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from quantrac.embedded.errors import EmbeddedServerError
from quantrac.embedded.files import write_private

# Below the range Linux takes outgoing connections' ports from (32768 to 60999 by default), so that no such
# connection can sit on our port when the server starts again.
_RANGE = range(20000, 32000)
_TRIES = 200


def reachable(host: str) -> str:
    """Where a server that listens on `host` is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def is_free(host: str, port: int) -> bool:
    """Whether a server may listen there now (connections in TIME_WAIT do not count)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def read_port(file: Path) -> int | None:
    """The port kept in `file`, if there is one."""
    try:
        port = int(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return port if 0 < port < 65536 else None


def keep_port(file: Path, host: str, preferred: int | None = None) -> int:
    """The port kept in `file` while free, else `preferred`, else a random free one; the choice is kept."""
    kept = read_port(file)
    candidates = [kept, preferred, *random.sample(_RANGE, _TRIES)]
    for port in candidates:
        if port is not None and is_free(host, port):
            if port != kept:
                write_private(file, f"{port}\n")
            return port
    raise EmbeddedServerError(
        f"No free port found on {host}", cure="Check that this address belongs to this machine (--host)."
    )
