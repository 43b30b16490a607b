"""Ports for servers that a test starts itself, and may stop and start again."""

from __future__ import annotations

import os
import random
import socket

# Below those that systems give to outgoing connections (Linux from 32768 on, others from 49152): none of the
# many connections of tests that run side by side can take one between its choice and its use. Each worker of
# pytest-xdist chooses from a share of its own.
_FIRST, _SHARE, _SHARES = 16_000, 1_000, 16
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_begin = random.SystemRandom().randrange(_SHARE)
_given = 0


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens; another one each time."""
    global _given
    while _given < _SHARE:
        port = _FIRST + _worker % _SHARES * _SHARE + (_begin + _given) % _SHARE
        _given += 1
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no port is left for this test")
