"""A stage of its own for every test here. `make test-chaos` runs them; an ordinary run leaves them out."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quantrac.embedded import EmbeddedPostgres
from quantrac.embedded.mosquitto import Mosquitto
from telemetry.store.migrate import migrate

from .broker import Broker
from .database import Database
from .stage import Stage
from .traffic import register_devices

_SEED = "CHAOS_SEED"


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stopped server with the schema and 200 devices, to be copied."""
    home = tmp_path_factory.mktemp("pristine")
    server = EmbeddedPostgres(home)
    migrate(server.start())
    database = Database(home)
    database.start()
    with database.connect() as connection:
        register_devices(connection)
    database.close()
    return home


def copy(pristine: Path, to: Path) -> Database:
    """A server of one's own, not yet started."""
    subprocess.run(["cp", "-a", f"{pristine}/.", to], check=True)
    return Database(to)


@pytest.fixture
async def stage(tmp_path: Path, pristine: Path) -> AsyncIterator[Stage]:
    if Mosquitto.find() is None:
        pytest.skip("Mosquitto is not installed")
    (tmp_path / "database").mkdir()
    database, broker = copy(pristine, tmp_path / "database"), Broker(tmp_path / "broker")
    database.start()
    broker.start()
    made = Stage(tmp_path, broker, database)
    try:
        yield made
    finally:
        await made.close()
        broker.stop()
        made.database.close()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance that can be repeated: a test that fails tells its seed; CHAOS_SEED gives it again."""
    seed = int(os.environ.get(_SEED) or random.SystemRandom().randrange(10**9))
    request.node.add_report_section("setup", "seed", f"{_SEED}={seed}")
    return random.Random(seed)
