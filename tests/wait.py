"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that a caller of a service under test waits for what comes at once, unless the machine is busy."""


async def until(condition: Callable[[], T], seconds: float = 20.0) -> T:
    """The first truthy answer of `condition`; fails with the last one after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not true within {seconds} s; last answer: {answer!r}"
        await asyncio.sleep(0.02)
