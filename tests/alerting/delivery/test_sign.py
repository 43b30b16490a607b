from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from alerting.delivery.sign import new_secret, sign
from telemetry.errors import UsageError


@pytest.mark.parametrize(
    ("secret", "message", "timestamp", "body", "signature"),
    [
        (
            "whsec_plJ3nmyCDGBKInavdOK15jsl",
            "msg_loFOjxBNrRLzqYUf",
            1731705121,
            b'{"event_type":"ping","data":{"success":true}}',
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        ),
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ],
)
def test_published_vectors(secret: str, message: str, timestamp: int, body: bytes, signature: str) -> None:
    assert sign(message, timestamp, body, [secret]) == signature


def test_an_independent_verifier_accepts_either_secret_of_a_rotation() -> None:
    new, old = new_secret(), new_secret()
    now = int(datetime.now(UTC).timestamp())
    body = '{"tên":"Phú Hiệp"}'.encode()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign("msg_1", now, body, [new, old]),
    }
    for secret in (new, old):
        assert Webhook(secret).verify(body, headers) == {"tên": "Phú Hiệp"}
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body.replace(b"P", b"B"), headers)


def test_a_new_secret_has_32_bytes_and_is_not_the_last_one() -> None:
    secret = new_secret()
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret[6:])) == 32
    assert secret != new_secret()


@pytest.mark.parametrize("secret", ["", "plain", "whsec_%%%", "whsk_AAAA"])
def test_what_is_no_secret_is_named(secret: str) -> None:
    with pytest.raises(UsageError, match="whsec_"):
        sign("msg_1", 1, b"", [secret])


def test_no_secret_and_an_ambiguous_id_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one secret"):
        sign("msg_1", 1, b"", [])
    with pytest.raises(UsageError, match="full stop"):
        sign("msg.1", 1, b"", [new_secret()])
