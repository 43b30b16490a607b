"""Waiting that ends at once when there is reason to."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def pause(seconds: float, until: asyncio.Event) -> None:
    """Wait `seconds`, or less when `until` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(until.wait(), seconds)
