"""Order, retries and what one delivery's fate means for the others, with the clock in our hand."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from alerting.delivery import queue
from alerting.delivery.schedule import OFFSETS
from alerting.delivery.send import Sender
from alerting.delivery.worker import Worker
from telemetry.clock import ManualClock
from telemetry.store.pool import Pool

Deliver = Callable[[Worker], Awaitable[int]]
MakeWorker = Callable[..., Awaitable[Worker]]


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


async def test_an_outage_loses_nothing_and_keeps_the_order(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, clock: ManualClock
) -> None:
    endpoint = await outbox.endpoint(receiver.url())
    alerts = [uuid.uuid4() for _ in range(3)]
    receiver.always(500)
    sent: dict[uuid.UUID, list[str]] = {alert: [] for alert in alerts}
    for seq in range(1, 5):
        for alert in alerts:
            sent[alert].append(await outbox.enqueue(endpoint, alert=alert, seq=seq))
        await deliver(worker)
        clock.advance(seconds(15))
    assert set(receiver.ids) == {ids[0] for ids in sent.values()}  # only heads were tried

    receiver.always(200)
    receiver.requests.clear()
    clock.advance(seconds(60))
    await deliver(worker)
    for ids in sent.values():
        assert [message for message in receiver.ids if message in ids] == ids
    assert len(receiver.ids) == 12
    assert await outbox.pending() == 0


async def test_a_failing_head_holds_its_alert_only(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver
) -> None:
    endpoint, other = [await outbox.endpoint(receiver.url(path)) for path in ("/a", "/b")]
    stuck, fine = uuid.uuid4(), uuid.uuid4()
    head = await outbox.enqueue(endpoint, alert=stuck, seq=1)
    behind = await outbox.enqueue(endpoint, alert=stuck, seq=2)
    free = [
        await outbox.enqueue(endpoint, alert=fine, seq=1),
        await outbox.enqueue(endpoint, alert=fine, seq=2),
        await outbox.enqueue(endpoint),
        await outbox.enqueue(other, alert=stuck, seq=1),
        await outbox.enqueue(other, alert=stuck, seq=2),
    ]

    async def answer(request: Any) -> Any:
        return receiver.Reply(500 if request.headers["webhook-id"] == head else 200)

    receiver.answer = answer
    await deliver(worker)
    assert behind not in receiver.ids
    for message in free:
        assert (await outbox.delivery(message))["state"] == "delivered"
    assert await outbox.pending() == 2


async def test_the_whole_schedule_then_failed_kept_and_recovered(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, clock: ManualClock, pool: Pool
) -> None:
    receiver.always(500)
    alert = uuid.uuid4()
    endpoint = await outbox.endpoint(receiver.url())
    began = clock.now()
    message = await outbox.enqueue(endpoint, alert=alert, seq=1)
    tries = []
    while (row := await outbox.delivery(message))["state"] == "pending":
        clock.set(row["next_at"])
        assert await deliver(worker) == 1
        tries.append((clock.now() - began).total_seconds())
    assert tries == list(OFFSETS)
    assert row["state"] == "failed"
    assert row["attempts"] == len(OFFSETS) == len(await outbox.attempts(message))
    assert set(receiver.ids) == {message}
    timestamps = [int(request.headers["webhook-timestamp"]) for request in receiver.requests]
    assert timestamps == [int(began.timestamp()) + offset for offset in OFFSETS]

    receiver.always(200)
    async with pool.connection() as conn:
        assert await queue.recover(conn, endpoint, since=began + seconds(1), now=clock.now()) == 0
        assert await queue.recover(conn, endpoint, since=began, now=clock.now()) == 1
    assert await deliver(worker) == 1
    assert (await outbox.delivery(message))["state"] == "delivered"


async def test_a_recovered_delivery_has_a_fresh_schedule(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, clock: ManualClock, pool: Pool
) -> None:
    receiver.always(500)
    endpoint = await outbox.endpoint(receiver.url())
    message = await outbox.enqueue(endpoint)
    await deliver(worker)
    clock.advance(timedelta(days=5))
    await deliver(worker)
    assert (await outbox.delivery(message))["state"] == "failed"
    async with pool.connection() as conn:
        await queue.recover(conn, endpoint, since=clock.now() - timedelta(days=9), now=clock.now())
    began = clock.now()
    for offset in OFFSETS[1:4]:
        assert await deliver(worker) == 1
        assert (await outbox.delivery(message))["next_at"] == began + seconds(offset)
        clock.set(began + seconds(offset))


async def test_after_a_failed_head_the_next_goes_on(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, clock: ManualClock
) -> None:
    receiver.always(500, webhook_delivery="abort-message")
    alert = uuid.uuid4()
    endpoint = await outbox.endpoint(receiver.url())
    first = await outbox.enqueue(endpoint, alert=alert, seq=1)
    second = await outbox.enqueue(endpoint, alert=alert, seq=2)
    (job,) = await worker.claim(10)
    await worker.perform(job)
    assert (await outbox.delivery(first))["state"] == "failed"
    receiver.always(200)
    await deliver(worker)
    assert (await outbox.delivery(second))["state"] == "delivered"


async def test_a_newer_transition_retries_its_head_at_once(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, clock: ManualClock
) -> None:
    receiver.always(500)
    alert = uuid.uuid4()
    endpoint = await outbox.endpoint(receiver.url())
    head = await outbox.enqueue(endpoint, alert=alert, seq=1)
    for _ in OFFSETS[:14]:
        clock.set((await outbox.delivery(head))["next_at"])
        await deliver(worker)
    due = (await outbox.delivery(head))["next_at"]
    clock.advance(seconds(60))
    assert await deliver(worker) == 0

    newer = await outbox.enqueue(endpoint, alert=alert, seq=2)
    assert await deliver(worker) == 1
    assert receiver.ids[-1] == head
    assert (await outbox.delivery(head))["next_at"] == due  # an extra try
    assert await deliver(worker) == 0  # and no busy loop behind a failing head
    receiver.always(200)
    await outbox.enqueue(endpoint, alert=alert, seq=3)
    clock.advance(seconds(1))
    assert await deliver(worker) == 3
    assert receiver.ids[-3:-1] == [head, newer]


async def test_a_success_wakes_the_other_heads_of_its_endpoint(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, clock: ManualClock
) -> None:
    receiver.always(500)
    endpoint, other = [await outbox.endpoint(receiver.url(path)) for path in ("/a", "/b")]
    waiting = [await outbox.enqueue(endpoint, alert=uuid.uuid4(), seq=1) for _ in range(3)]
    foreign = await outbox.enqueue(other, alert=uuid.uuid4(), seq=1)
    for _ in range(12):
        clock.set((await outbox.delivery(waiting[0]))["next_at"])
        await deliver(worker)
    clock.advance(seconds(60))
    receiver.always(200)
    assert await deliver(worker) == 0
    fresh = await outbox.enqueue(endpoint)
    assert await deliver(worker) == 4
    assert receiver.ids[-4] == fresh
    assert sorted(receiver.ids[-3:]) == sorted(waiting)
    assert (await outbox.delivery(foreign))["state"] == "pending"


async def test_successes_do_not_hammer_a_message_that_cannot_be_taken(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, clock: ManualClock
) -> None:
    endpoint = await outbox.endpoint(receiver.url())
    poison = await outbox.enqueue(endpoint, alert=uuid.uuid4(), seq=1)

    async def answer(request: Any) -> Any:
        return receiver.Reply(500 if request.headers["webhook-id"] == poison else 200)

    receiver.answer = answer
    for _ in range(600):
        await outbox.enqueue(endpoint)
        await deliver(worker)
        clock.advance(seconds(1))
    tries = receiver.ids.count(poison)
    assert 11 <= tries <= 60  # 600 successes, and half a second more patience with each try
    assert (await outbox.delivery(poison))["state"] == "pending"


async def test_410_disables_the_endpoint_and_keeps_its_messages(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver
) -> None:
    receiver.always(410)
    endpoint = await outbox.endpoint(receiver.url())
    alert = uuid.uuid4()
    messages = [await outbox.enqueue(endpoint, alert=alert, seq=seq) for seq in (1, 2)]
    await deliver(worker)
    (row,) = await outbox.rows("SELECT * FROM endpoint")
    assert not row["enabled"]
    assert "410" in row["disabled_why"]
    for message in messages:
        kept = await outbox.delivery(message)
        assert kept["state"] == "failed"
        assert "endpoint disabled" in kept["last_error"] or "410" in kept["last_error"]
    assert len(receiver.requests) == 1


async def test_a_disabled_endpoint_gets_nothing(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver
) -> None:
    endpoint = await outbox.endpoint(receiver.url())
    await outbox.rows("UPDATE endpoint SET enabled = false")
    await outbox.enqueue(endpoint)
    assert await deliver(worker) == 0


async def test_an_endpoint_may_take_the_message_and_ask_to_be_disabled(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver
) -> None:
    receiver.always(200, webhook_delivery="disable")
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    await deliver(worker)
    assert (await outbox.delivery(message))["state"] == "delivered"
    (row,) = await outbox.rows("SELECT * FROM endpoint")
    assert not row["enabled"]


async def test_too_many_requests_slow_the_endpoint_down(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, clock: ManualClock
) -> None:
    receiver.always(429, retry_after="30")
    endpoint = await outbox.endpoint(receiver.url("/a"))
    other = await outbox.endpoint(receiver.url("/b"))
    alert = uuid.uuid4()
    first = await outbox.enqueue(endpoint, alert=alert, seq=1)
    assert await deliver(worker) == 1
    receiver.always(200)
    clock.advance(seconds(29))
    await outbox.enqueue(endpoint, alert=alert, seq=2)
    await outbox.enqueue(endpoint)
    await outbox.enqueue(other)
    assert await deliver(worker) == 1
    assert receiver.requests[-1].path == "/b"
    clock.advance(seconds(1))
    assert await deliver(worker) == 3
    assert (await outbox.delivery(first))["attempts"] == 2


async def test_one_told_to_wait_waits_whatever_another_worker_hears(
    outbox: Any, receiver: Any, make_worker: MakeWorker, deliver: Deliver, clock: ManualClock
) -> None:
    receiver.always(429, retry_after="120")
    endpoint = await outbox.endpoint(receiver.url())
    alert = uuid.uuid4()
    first = await outbox.enqueue(endpoint, alert=alert, seq=1)
    await deliver(await make_worker())
    receiver.always(200)
    clock.advance(seconds(100))
    await outbox.enqueue(endpoint, alert=alert, seq=2)
    await outbox.enqueue(endpoint)
    other = await make_worker()
    assert await deliver(other) == 1
    assert receiver.ids.count(first) == 1
    clock.advance(seconds(20))
    assert await deliver(other) == 2


async def test_a_lease_that_ran_out_is_taken_over(
    outbox: Any, receiver: Any, make_worker: MakeWorker, deliver: Deliver, clock: ManualClock
) -> None:
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    lost, heir = await make_worker(), await make_worker()
    (job,) = await lost.claim(10)
    assert await deliver(heir) == 0
    clock.set(job.leased_until - seconds(1))
    assert await deliver(heir) == 0
    clock.set(job.leased_until)
    assert await deliver(heir) == 1
    assert receiver.ids == [message]
    assert (await outbox.delivery(message))["state"] == "delivered"


async def test_a_failure_told_too_late_does_not_undo_the_heirs_work(
    outbox: Any, receiver: Any, make_worker: MakeWorker, clock: ManualClock
) -> None:
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    lost, heir = await make_worker(), await make_worker()
    (late,) = await lost.claim(10)
    clock.set(late.leased_until)
    (job,) = await heir.claim(10)
    receiver.always(500)
    await lost.perform(late)
    row = await outbox.delivery(message)
    assert (row["state"], row["attempts"], row["leased_until"]) == ("pending", 0, job.leased_until)
    assert len(await outbox.attempts(message)) == 1
    receiver.always(200)
    clock.advance(seconds(1))
    await heir.perform(job)
    assert (await outbox.delivery(message))["state"] == "delivered"


async def test_a_released_claim_is_free_at_once(
    outbox: Any, receiver: Any, make_worker: MakeWorker, deliver: Deliver
) -> None:
    await outbox.enqueue(await outbox.endpoint(receiver.url()))
    first, second = await make_worker(), await make_worker()
    jobs = await first.claim(10)
    await first.release(jobs)
    assert await deliver(second) == 1


async def test_recording_the_same_try_twice_changes_nothing(
    outbox: Any, receiver: Any, worker: Worker, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = queue.record

    async def twice(*parts: Any) -> None:
        await real(*parts)
        await real(*parts)

    monkeypatch.setattr(queue, "record", twice)
    endpoint = await outbox.endpoint(receiver.url())
    for status, state in ((200, "delivered"), (500, "pending")):
        receiver.always(status)
        message = await outbox.enqueue(endpoint)
        (job,) = await worker.claim(1)
        await worker.perform(job)
        row = await outbox.delivery(message)
        assert (row["state"], row["attempts"]) == (state, 1)
        assert len(await outbox.attempts(message)) == 1


async def test_an_endpoint_deleted_during_the_try(outbox: Any, receiver: Any, worker: Worker) -> None:
    await outbox.enqueue(await outbox.endpoint(receiver.url()))
    (job,) = await worker.claim(1)
    await outbox.rows("DELETE FROM endpoint")
    await worker.perform(job)
    assert await outbox.pending() == 0


async def test_no_endpoint_gets_more_than_its_slots_and_the_rest_share_fairly(
    outbox: Any, receiver: Any, worker: Worker, clock: ManualClock
) -> None:
    busy, late = [await outbox.endpoint(receiver.url(path)) for path in ("/a", "/b")]
    for _ in range(20):
        await outbox.enqueue(busy, at=clock.now() - seconds(60))
    for _ in range(2):
        await outbox.enqueue(late)
    jobs = await worker.claim(3)
    assert sorted(job.endpoint_id for job in jobs) == [busy, busy, late]
    jobs += await worker.claim(10, {busy: 2, late: 1})
    assert sorted(job.endpoint_id for job in jobs) == [busy] * 4 + [late] * 2
    assert await worker.claim(10, {busy: 4, late: 2}) == []


async def test_resend_keeps_the_id(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, pool: Pool, clock: ManualClock
) -> None:
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    await deliver(worker)
    clock.advance(seconds(5))
    row = await outbox.delivery(message)
    async with pool.connection() as conn:
        assert await queue.resend(conn, row["id"], now=clock.now())
        assert not await queue.resend(conn, row["id"] + 1, now=clock.now())
    await deliver(worker)
    assert receiver.ids == [message, message]
    assert len(await outbox.attempts(message)) == 2


async def test_results_written_together_do_not_deadlock(
    outbox: Any, receiver: Any, make_worker: MakeWorker, deliver: Deliver, clock: ManualClock
) -> None:
    endpoint = await outbox.endpoint(receiver.url())
    for _ in range(30):
        alert = uuid.uuid4()
        for seq in (1, 2, 3):
            await outbox.enqueue(endpoint, alert=alert, seq=seq)
    count = 0

    async def flaky(_: Any) -> Any:
        nonlocal count
        count += 1
        return receiver.Reply(200 if count % 3 else 503)

    receiver.answer = flaky
    workers = [await make_worker(webhook_concurrency_each=20) for _ in range(3)]
    async with asyncio.timeout(60):
        while await outbox.pending():
            await asyncio.gather(*map(deliver, workers))
            clock.advance(seconds(2))
    rows = await outbox.rows("SELECT * FROM delivery")
    assert {row["state"] for row in rows} == {"delivered"}


async def test_a_slow_endpoint_keeps_one_slot_until_it_is_quick_again(
    outbox: Any, receiver: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await outbox.endpoint(receiver.url())
    for _ in range(9):
        await outbox.enqueue(endpoint)
    monkeypatch.setattr("alerting.delivery.worker._SLOW", 0.0)
    (first,) = await worker.claim(1)
    await worker.perform(first)
    (second,) = await worker.claim(10)
    assert await worker.claim(10, {endpoint: 1}) == []
    monkeypatch.setattr("alerting.delivery.worker._SLOW", 60.0)
    await worker.perform(second)
    assert len(await worker.claim(10)) == 4


async def _break_off(*_: Any) -> Any:
    raise RuntimeError("nobody thought of that")


async def test_a_try_that_breaks_off_is_a_failed_one(
    outbox: Any, worker: Worker, deliver: Deliver, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sender, "post", _break_off)
    message = await outbox.enqueue(await outbox.endpoint("https://example.vn/"))
    assert await deliver(worker) == 1
    row = await outbox.delivery(message)
    assert (row["state"], row["attempts"], row["leased_until"]) == ("pending", 1, None)
    assert row["next_at"] == clock.now() + seconds(OFFSETS[1])
    assert "RuntimeError" in row["last_error"]


async def test_an_absurd_retry_after_is_no_reason_to_repeat_at_once(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, clock: ManualClock
) -> None:
    receiver.always(503, retry_after="Mon, 1 Jan 2026 00:00:00 " + "9" * 30)
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    assert await deliver(worker) == 1
    row = await outbox.delivery(message)
    assert (row["attempts"], row["next_at"]) == (1, clock.now() + seconds(OFFSETS[1]))


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize(("status", "state"), [(500, "failed"), (200, "delivered")])
async def test_what_cannot_be_recorded_whole_keeps_to_the_schedule(
    outbox: Any,
    receiver: Any,
    worker: Worker,
    deliver: Deliver,
    clock: ManualClock,
    noted: bool,
    status: int,
    state: str,
) -> None:
    condition = "response IS NULL" if noted else "false"
    await outbox.rows(f"ALTER TABLE attempt ADD CHECK ({condition})")
    receiver.always(status, b"no such luck")
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    for _ in range(2 * len(OFFSETS)):
        clock.set(max((await outbox.delivery(message))["next_at"], clock.now()))
        await deliver(worker)
    row = await outbox.delivery(message)
    tries = 1 if state == "delivered" else len(OFFSETS)
    assert (row["state"], row["attempts"], len(receiver.ids)) == (state, tries, tries)
    assert len(await outbox.attempts(message)) == (tries if noted else 0)
    assert (row["last_error"] is None) == (state == "delivered")


async def test_a_result_is_written_as_soon_as_the_database_takes_it(
    outbox: Any, receiver: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refusals = queue.record, iter(range(3))

    async def troubled(*parts: Any) -> None:
        if next(refusals, None) is not None:
            raise psycopg.OperationalError("the server closed the connection")
        await real(*parts)

    monkeypatch.setattr(queue, "record", troubled)
    monkeypatch.setattr("alerting.delivery.worker._BACK_OFF", (0.001, 0.001))
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    (job,) = await worker.claim(1)
    await worker.perform(job)
    assert (await outbox.delivery(message))["state"] == "delivered"
    assert receiver.ids == [message]
