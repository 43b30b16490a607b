"""The broker and the connection to it fail."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tests.wait import until

from .broker import Session
from .stage import CLIENT_ID, Stage

pytestmark = pytest.mark.chaos


async def test_a_cut_between_commit_and_ack(stage: Stage) -> None:
    proxy = await stage.broker_proxy()
    await stage.start(QUANTRAC_MQTT_URL=stage.broker.through(proxy.port))
    for round_ in range(3):
        before = stage.database.stored()
        proxy.mute_upstream()
        unacked = await stage.publish(500)
        await stage.reaches(before + 500)
        await proxy.cut()
        await stage.connected(False)
        held = await stage.kept()
        assert {stage.published[frame] for frame in unacked} <= set(held), "an ack came through"
        proxy.mend()
        await stage.connected()
        await until(lambda: stage.duplicates() >= 500 * (round_ + 1))  # noqa: B023
    await stage.assert_survived()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_broker_that_kept_its_sessions_restarts(stage: Stage, end: str) -> None:
    await stage.start()
    await stage.publish(500)
    await stage.reaches(500)
    gate = stage.gate()
    await stage.publish(500)
    await gate.waited_for()
    await until(lambda: stage.received() >= 1000)
    await asyncio.to_thread(getattr(stage.broker, end))
    await stage.connected(False)
    await asyncio.to_thread(stage.broker.start)
    await stage.connected()
    await stage.publish(500)
    gate.open()
    await stage.assert_survived()
    assert not stage.database.ask("SELECT 1 FROM reject")


async def test_a_broker_that_forgot_its_sessions_while_a_commit_is_delayed(stage: Stage) -> None:
    """What reached us is stored; a late ack leaves alone the messages of the connection that came after."""
    proxy = await stage.broker_proxy()
    await stage.start(QUANTRAC_MQTT_URL=stage.broker.through(proxy.port))
    gate = stage.gate()
    await stage.publish(1)
    await gate.waited_for()
    await stage.publish(99)
    await until(lambda: stage.received() == 100)
    await gate.pass_one()
    await gate.waited_for()  # the COMMIT of the 99, whose packet ids the next connection uses again

    await proxy.cut()
    await stage.connected(False)
    began = datetime.now(UTC)
    stage.lost = await stage.publish(100)
    ended = datetime.now(UTC)
    await asyncio.to_thread(stage.broker.stop)
    stage.broker.forget()
    await asyncio.to_thread(stage.broker.start)
    proxy.mend()
    await stage.connected()
    reached = stage.received()
    late = await stage.publish(100)
    await until(lambda: stage.received() >= reached + 100)

    await gate.pass_one()
    await stage.reaches(100)
    await gate.waited_for()  # the COMMIT of the late ones; by now the 99 would have been acked
    await proxy.cut()
    await stage.connected(False)
    held = await stage.kept()
    assert {stage.published[frame] for frame in late} <= set(held), "an ack strayed onto the new connection"
    proxy.mend()
    gate.open()
    await stage.connected()
    await stage.assert_told_as_lost(began, ended)
    await stage.assert_survived()


async def test_a_session_taken_over_by_another_client(stage: Stage) -> None:
    """It gets what ingest had not acknowledged yet, and leaves."""
    await stage.start()
    await stage.publish(100)
    await stage.reaches(100)
    gate = stage.gate()
    async with stage.streaming(rate=200):
        await until(lambda: stage.received() >= 300)
        async with Session(stage.broker.info.urls["ingest"], CLIENT_ID) as thief:
            assert thief.present
            await until(lambda: len(thief.received) >= 200)
        gate.open()
        await stage.reaches(stage.database.stored() + 400)
    await stage.assert_survived()
