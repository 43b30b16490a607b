"""The database of compose.yaml, where a container engine is at hand."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest

from telemetry.store.edition import HYPERTABLES, Edition
from telemetry.store.migrate import migrate
from tests.deploy.files import DEPLOY, SECRET, compose, filled_in

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(900),  # the image may have to be fetched
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # testcontainers warns of its own parts
]


@pytest.fixture
def production_url() -> Iterator[str]:
    """The compose service `timescaledb`, as its role quantrac."""
    # In a process of its own: a failed try leaves a socket open, which is an error here.
    asked = subprocess.run(
        [sys.executable, "-c", "import docker; docker.from_env(timeout=10).ping()"], capture_output=True
    )
    if asked.returncode != 0:
        pytest.skip("no container engine answers (Docker, or another one named by DOCKER_HOST)")
    from testcontainers.core.container import DockerContainer

    service = compose(filled_in())["services"]["timescaledb"]
    container = DockerContainer(service["image"]).with_envs(**service["environment"]).with_exposed_ports(5432)
    for volume in service["volumes"]:
        source, target, *_ = volume.split(":")
        if source.startswith("."):
            container = container.with_volume_mapping(str((DEPLOY / source).resolve()), target, "ro")
    with container as running:
        address = f"{running.get_container_host_ip()}:{running.get_exposed_port(5432)}"
        url = f"postgresql://quantrac:{SECRET}@{address}/quantrac"
        _wait_for(url, seconds=180)
        yield url


def _wait_for(url: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the database does not answer"
            time.sleep(0.2)
        else:
            return


def test_the_community_edition_gets_hypertables(production_url: str) -> None:
    done = migrate(production_url)
    assert done.edition is Edition.COMMUNITY
    assert set(done.hypertables) == set(HYPERTABLES)
    again = migrate(production_url)
    assert (again.before, again.hypertables) == (done.after, [])
