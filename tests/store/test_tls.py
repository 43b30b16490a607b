"""TLS to the database: a real server with a certificate made here, wrong authorities and names refused."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import PoolTimeout

from telemetry.settings import StoreSettings
from telemetry.store.pool import async_connect, async_pool, connect
from telemetry.store.refusal import cure
from tests.pgbouncer import PROGRAM, pgbouncer

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")


class Authority:
    """One that signs; its certificate is NAME.pem in the folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self._folder, self._name = folder, _common_name(name)
        self._key = self._write(name, self._name, None)

    def sign(self, name: str) -> None:
        """NAME.pem and NAME.key of a server called `localhost`."""
        self._write(name, _common_name(name), self._key)

    def _write(
        self, name: str, subject: x509.Name, signer: ec.EllipticCurvePrivateKey | None
    ) -> ec.EllipticCurvePrivateKey:
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(signer or key, hashes.SHA256())
        )
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        (self._folder / f"{name}.pem").write_bytes(made.public_bytes(pem))
        secret = self._folder / f"{name}.key"
        secret.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        secret.chmod(0o644)  # the server runs as another user
        return key


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class Served(NamedTuple):
    """A server that speaks nothing but TLS; `url` lacks how."""

    folder: Path
    url: str

    def at(self, host: str = "localhost", ca: str = "ca.pem") -> str:
        server = self.url.replace("@127.0.0.1:", f"@{host}:")
        return f"{server}?sslmode=verify-full&sslrootcert={self.folder / ca}"


@pytest.fixture
def served(database_url: str, tmp_path: Path) -> Iterator[Served]:
    Authority("ca", tmp_path).sign("server")
    Authority("other", tmp_path)
    tls = (
        f"client_tls_sslmode = require\nclient_tls_key_file = {tmp_path / 'server.key'}\n"
        f"client_tls_cert_file = {tmp_path / 'server.pem'}\n"
    )
    with pgbouncer(database_url, tmp_path, more=tls) as url:
        yield Served(tmp_path, url)


async def test_verified_wherever_we_connect(served: Served) -> None:
    with connect(served.at(), application="test") as connection:
        assert connection.pgconn.ssl_in_use
    async with await async_connect(served.at(), application="test") as other:
        assert other.pgconn.ssl_in_use
    async with (
        async_pool(StoreSettings(database_url=served.at()), application="test") as pool,
        pool.connection() as pooled,
    ):
        assert pooled.pgconn.ssl_in_use
    done = _quantrac("status", "--json", url=served.at())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("host", "ca", "said"),
    [
        ("localhost", "other.pem", "sslrootcert"),
        ("127.0.0.1", "ca.pem", "another name"),
        ("localhost", "missing.pem", "sslrootcert"),
    ],
)
def test_whom_we_do_not_know_is_refused(served: Served, host: str, ca: str, said: str) -> None:
    url = served.at(host, ca)
    with pytest.raises(psycopg.OperationalError) as refused:
        connect(url, application="test")
    assert said in cure(refused.value)


async def test_the_password_is_told_nobody(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    password = "k3in-W0rt"
    user = conninfo_to_dict(served.url)["user"]
    url = served.at(ca="other.pem").replace(served.url.split("@")[0], f"postgresql://{user}:{password}")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(PoolTimeout):
        async with async_pool(StoreSettings(database_url=url), application="test") as pool:
            await pool.connection(1).__aenter__()
    done = _quantrac("status", url=url)
    assert done.returncode == 1
    assert "sslrootcert" in done.stderr
    assert password not in done.stderr + done.stdout + caplog.text


def _quantrac(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "QUANTRAC_DATABASE_URL": url}
    command = [sys.executable, "-m", "quantrac", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
