"""kill -9 of ingest, at any instant."""

from __future__ import annotations

import asyncio
import random

import pytest

from .stage import Stage

pytestmark = pytest.mark.chaos
KILLS = 20


@pytest.mark.slow
async def test_twenty_kills_at_random_instants(stage: Stage, rng: random.Random) -> None:
    await stage.start()
    async with stage.streaming(rate=700):
        for number in range(KILLS):
            # Mostly at work, every fifth time anywhere from its first breath on.
            if number % 5:
                await stage.reaches(stage.database.stored() + 50)
            await asyncio.sleep(rng.uniform(0, 0.3 if number % 5 else 1.0))
            stage.program.kill()
            stage.spawn()
    await stage.connected()
    await stage.assert_survived()


async def test_a_kill_while_a_commit_is_under_way(stage: Stage) -> None:
    """The killed process's COMMIT goes through after its successor got the same messages again."""
    await stage.start()
    gate = stage.gate()
    await stage.publish(500)
    await gate.waited_for()
    stage.program.kill()
    await stage.start()
    await stage.publish(500)
    gate.open()
    await stage.assert_survived()
