"""The examples of the documentation run."""

from __future__ import annotations

import importlib.util
import json
import re
import threading
import time
import tomllib
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from alerting.delivery.schedule import OFFSETS
from alerting.delivery.sign import new_secret, sign
from alerting.rules import read_rules
from decoders.device_types import parse_device_type, read_device_types
from decoders.normalise import normalise
from decoders.registry import GROUP, load_codecs
from decoders.vectors import run_vectors
from telemetry.catalogue import CATALOGUE
from tests.decoders.papers import lacking
from tests.imported import read_rows
from tests.wait import PATIENCE

from .pages import DOCS, blocks, name_of

RECEIVER = DOCS / "examples" / "receive_webhooks.py"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=name_of)
def test_json_is_json(page: Path) -> None:
    for block in blocks(str(page.relative_to(DOCS)), "json"):
        json.loads(block)


def test_rules() -> None:
    files = [read_rules(block) for block in blocks("how-to/rules.md", "yaml")]
    assert [len(rules) for rules in files] == [1, 3]


@pytest.fixture
def codec_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's package, found by import and declared as its pyproject.toml declares it."""
    package = tmp_path / "acme_tank"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "codec.py").write_text(blocks("how-to/codec.md", "python")[0], encoding="utf-8")
    (package / "vectors.json").write_text(blocks("how-to/codec.md", "json")[0], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return package


def test_codec(codec_package: Path) -> None:
    project = tomllib.loads(blocks("how-to/codec.md", "toml")[0])["project"]
    ((name, value),) = project["entry-points"][GROUP].items()
    registry = load_codecs([EntryPoint(name, value, GROUP)])
    assert registry.problems == ()
    codec = registry.get("acme-tank")
    results = run_vectors(codec, codec_package)
    assert len(results) == 5
    assert [result.difference for result in results if not result.passed] == []

    (from_file,) = read_device_types(blocks("how-to/codec.md", "yaml")[0], CATALOGUE)
    fields = codec.decode(10, bytes.fromhex("04d224"))
    values = normalise(fields, from_file, {"sensor_elevation_m": 100.0}).values
    assert {v.metric: v.value for v in values} == {
        "water.level": 101.234,
        "distance": 1.234,
        "battery.voltage": 3.6,
    }


def test_paper_of_the_codec() -> None:
    sources = json.loads(blocks("how-to/codec.md", "json")[0])["source"]
    assert lacking(blocks("how-to/codec.md", "markdown")[0], sources) == []


def test_device_type_of_the_request() -> None:
    (curl,) = (block for block in blocks("how-to/codec.md", "sh") if "device-types" in block)
    found = re.search(r"-d '(.*)'", curl, re.S)
    assert found
    body = json.loads(found[1])
    parse_device_type({"id": "acme-tank-2", "map": body.pop("mapping"), **body}, CATALOGUE)


def test_imports(tmp_path: Path) -> None:
    stations, devices = blocks("how-to/devices.md", "csv")
    (tmp_path / "stations.csv").write_text(stations, encoding="utf-8")
    (tmp_path / "devices.csv").write_text(devices, encoding="utf-8")
    (station,) = read_rows(tmp_path / "stations.csv", "stations")
    (device,) = read_rows(tmp_path / "devices.csv", "devices")
    assert device["station"] == station["code"]
    assert device["variables"] == {"sensor_elevation_m": 108.5}


def test_schedule_is_told() -> None:
    text = (DOCS / "how-to" / "webhooks.md").read_text(encoding="utf-8")
    dense = [str(offset) for offset in OFFSETS if offset < 1000]
    assert f"{', '.join(dense[:-1])} and {dense[-1]} seconds" in " ".join(text.split())
    hours = [str(round(offset / 3600)) for offset in OFFSETS if offset > 3000]
    assert f"half an hour, {', '.join(hours[:-1])} and {hours[-1]} hours" in " ".join(text.split())


class _Running:
    """The receiver at work; `seen` collects (type, station) of what it handled."""

    def __init__(self, secret: str) -> None:
        spec = importlib.util.spec_from_file_location("receive_webhooks", RECEIVER)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.seen: list[tuple[str, str]] = []
        seen = self.seen

        class Receiver(module.Receiver):  # type: ignore[name-defined,misc]
            webhook = Webhook(secret)

            def log_message(self, _format: str, *values: Any) -> None:
                seen.append((str(values[0]), str(values[1])))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alerts"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


SECRET = new_secret()


@pytest.fixture
def receiver() -> Iterator[_Running]:
    running = _Running(SECRET)
    yield running
    running.stop()


def _headers(body: bytes, *secrets: str) -> dict[str, str]:
    now = int(time.time())
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign("msg_1", now, body, secrets),
    }


def test_receiver_verifies_what_we_sign(receiver: _Running) -> None:
    body = blocks("how-to/webhooks.md", "json")[0].encode()
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        # Twice, as after an answer that got lost; and with both secrets, as during a rotation.
        for secrets in ((SECRET,), (new_secret(), SECRET)):
            answer = client.post(receiver.url, content=body, headers=_headers(body, *secrets))
            assert answer.status_code == 204
        assert receiver.seen == [("alert.escalated", "Phú Hiệp: BĐ2, 105.615 m")]
        forged = client.post(receiver.url, content=body, headers=_headers(body, new_secret()))
    assert forged.status_code == 400


def test_receiver_is_shown_whole() -> None:
    assert blocks("how-to/webhooks.md", "python")[0] == RECEIVER.read_text(encoding="utf-8")
