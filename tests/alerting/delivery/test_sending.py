"""One try: what goes over the wire, and what each kind of answer becomes."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook, WebhookVerificationError

from alerting.delivery.send import Sender
from alerting.delivery.settings import DeliverySettings
from alerting.delivery.sign import new_secret
from alerting.delivery.worker import Worker
from telemetry.clock import ManualClock
from telemetry.errors import SettingsError
from telemetry.secrets import SecretBox
from tests.wait import PATIENCE

Deliver = Callable[[Worker], Awaitable[int]]
MakeWorker = Callable[..., Awaitable[Worker]]


async def test_a_delivery_verifies_and_is_recorded(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, clock: ManualClock
) -> None:
    receiver.always(202, b"th\xc3\xa0nh c\xc3\xb4ng")
    endpoint = await outbox.endpoint(receiver.url("/hook?token=1"))
    body = json.dumps({"type": "alert.opened", "data": {"station": "Phú Hiệp"}}, ensure_ascii=False)
    message = await outbox.enqueue(endpoint, body=body)
    assert await deliver(worker) == 1

    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/hook?token=1")
    assert request.body == body.encode()
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["webhook-id"] == message
    assert request.headers["webhook-timestamp"] == str(int(clock.now().timestamp()))
    Webhook(outbox.secrets[endpoint]).verify(request.body, request.headers)

    row = await outbox.delivery(message)
    assert (row["state"], row["attempts"], row["last_status"]) == ("delivered", 1, 202)
    assert row["delivered_at"] == clock.now()
    assert row["leased_until"] is None
    (attempt,) = await outbox.attempts(message)
    assert (attempt["status"], attempt["error"], attempt["response"]) == (202, None, "thành công")
    assert 0 <= attempt["duration_ms"] < PATIENCE * 1000
    (stored,) = await outbox.rows("SELECT last_success FROM endpoint")
    assert stored["last_success"] == clock.now()
    assert await deliver(worker) == 0


async def test_during_a_rotation_both_secrets_sign_and_afterwards_one(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver, clock: ManualClock, box: SecretBox
) -> None:
    endpoint = await outbox.endpoint(receiver.url())
    old = new_secret()
    await outbox.rows(
        "UPDATE endpoint SET old_secret = %s, old_until = %s",
        box.encrypt(old.encode()),
        clock.now() + dt.timedelta(seconds=60),
    )
    await outbox.enqueue(endpoint)
    await deliver(worker)
    request = receiver.requests[-1]
    assert len(request.headers["webhook-signature"].split()) == 2
    for secret in (old, outbox.secrets[endpoint]):
        Webhook(secret).verify(request.body, request.headers)

    clock.advance(dt.timedelta(seconds=60))
    await outbox.enqueue(endpoint)
    await deliver(worker)
    request = receiver.requests[-1]
    Webhook(outbox.secrets[endpoint]).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(request.body, request.headers)


async def test_a_redirect_is_a_failure_and_not_followed(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver
) -> None:
    receiver.always(307, location=receiver.url("/elsewhere"))
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    await deliver(worker)
    assert [request.path for request in receiver.requests] == ["/hook"]
    row = await outbox.delivery(message)
    assert (row["state"], row["last_status"]) == ("pending", 307)
    assert "redirects are not followed" in row["last_error"]


async def test_the_beginning_of_a_foul_response_is_kept_readable(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver
) -> None:
    receiver.always(500, b"a\x00\xff\xe1\xba" + b"x" * 100_000)
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    await deliver(worker)
    (attempt,) = await outbox.attempts(message)
    assert attempt["response"].startswith("a\ufffd\ufffd\ufffdx")
    assert len(attempt["response"]) <= 1024


async def test_an_answer_that_does_not_come_in_time(
    outbox: Any, receiver: Any, make_worker: MakeWorker, deliver: Deliver
) -> None:
    async def hang(_: Any) -> Any:
        await asyncio.Event().wait()

    receiver.answer = hang
    message = await outbox.enqueue(await outbox.endpoint(receiver.url()))
    await deliver(await make_worker(webhook_timeout=1))
    row = await outbox.delivery(message)
    assert (row["state"], row["last_status"], row["last_error"]) == ("pending", None, "no answer within 1 s")
    (attempt,) = await outbox.attempts(message)
    assert attempt["duration_ms"] >= 1000


@asynccontextmanager
async def _speaking(reply: bytes, *, hold: bool) -> AsyncIterator[str]:
    """A server that answers any request with these very bytes, and then hangs up or holds the line."""
    closed = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        if hold:
            await reader.read()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with asyncio.timeout(PATIENCE):
            await closed.wait()


async def test_a_body_that_never_ends_does_not_undo_a_success(settings: DeliverySettings) -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun"
    async with _speaking(reply, hold=True) as url, Sender(settings) as sender:
        answer = await sender.post(url, b"", {})
    assert (answer.status, answer.text, answer.error) == (200, "begun", None)


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nbroken"])
async def test_what_is_no_http_answer_is_an_error(settings: DeliverySettings, reply: bytes) -> None:
    async with _speaking(reply, hold=False) as url, Sender(settings) as sender:
        answer = await sender.post(url, b"", {})
    assert answer.status is None
    assert answer.error is not None
    assert "Error" in answer.error


async def test_connection_refused(outbox: Any, worker: Worker, deliver: Deliver) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        message = await outbox.enqueue(await outbox.endpoint(f"http://127.0.0.1:{port}/"))
        await deliver(worker)
    row = await outbox.delivery(message)
    assert row["state"] == "pending"
    assert "ConnectError" in row["last_error"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "[::1]", "[::ffff:127.0.0.1]", "[::]"],
)
async def test_nothing_reaches_loopback_by_default(
    outbox: Any, receiver: Any, make_worker: MakeWorker, deliver: Deliver, host: str
) -> None:
    message = await outbox.enqueue(await outbox.endpoint(f"http://{host}:{receiver.port}/"))
    await deliver(await make_worker(webhook_allow=""))
    row = await outbox.delivery(message)
    assert receiver.requests == []
    assert row["state"] == "pending"
    assert "QUANTRAC_WEBHOOK_ALLOW" in row["last_error"] or "unusual" in row["last_error"]


async def test_an_allowed_network_lets_no_mapped_address_in(
    settings: DeliverySettings, receiver: Any
) -> None:
    async with Sender(settings) as sender:
        answer = await sender.post(f"http://[::ffff:127.0.0.1]:{receiver.port}/", b"", {})
    assert answer.error is not None
    assert "QUANTRAC_WEBHOOK_ALLOW" in answer.error
    assert receiver.requests == []


async def test_proxies_of_the_environment_are_ignored(
    receiver: Any, settings: DeliverySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Sender(settings) as sender:
        answer = await sender.post(receiver.url(), b"", {})
    assert answer.status == 200


async def test_a_secret_under_another_key_is_an_error_that_names_the_setting(
    outbox: Any, receiver: Any, worker: Worker, deliver: Deliver
) -> None:
    endpoint = await outbox.endpoint(receiver.url())
    await outbox.rows("UPDATE endpoint SET secret = %s", SecretBox("another key").encrypt(b"whsec_AAAA"))
    message = await outbox.enqueue(endpoint)
    await deliver(worker)
    assert receiver.requests == []
    assert "QUANTRAC_SECRET_KEY" in (await outbox.delivery(message))["last_error"]


def _certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return context, file


async def test_an_unknown_certificate_is_refused(
    tmp_path: Path, make_receiver: Any, settings: DeliverySettings
) -> None:
    context, _ = _certificate(tmp_path, "localhost")
    async with make_receiver().listening(context) as receiver, Sender(settings) as sender:
        answer = await sender.post(f"https://localhost:{receiver.port}/", b"", {})
    assert answer.status is None
    assert answer.error is not None
    assert "CERTIFICATE_VERIFY_FAILED" in answer.error
    assert receiver.requests == []


async def test_tls_checks_the_name_although_the_connection_goes_to_an_address(
    tmp_path: Path, make_receiver: Any, settings: DeliverySettings
) -> None:
    context, file = _certificate(tmp_path, "localhost")
    trusting = settings.model_copy(update={"webhook_ca_file": str(file)})
    async with make_receiver().listening(context) as receiver, Sender(trusting) as sender:
        right = await sender.post(f"https://localhost:{receiver.port}/", b"", {})
        wrong = await sender.post(f"https://127.0.0.1:{receiver.port}/", b"", {})
    assert right.status == 200
    assert "localhost" in receiver.server_names
    assert receiver.requests[0].headers["host"] == f"localhost:{receiver.port}"
    assert wrong.error is not None
    assert "CERTIFICATE_VERIFY_FAILED" in wrong.error
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_authorities_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match="QUANTRAC_WEBHOOK_CA_FILE"):
        Sender(DeliverySettings(webhook_ca_file=str(file)))
