"""A real broker: the embedded Mosquitto, with its users."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quantrac.embedded import BrokerInfo, EmbeddedBroker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerInfo]:
    """A broker of the test's own."""
    server = EmbeddedBroker(tmp_path / "broker-home")
    yield server.start()
    server.stop()
