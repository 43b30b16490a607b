"""The image's recipe: what goes in is there, and its health check tells well from ill."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.deploy.files import ROOT, commands, read


def test_everything_the_build_needs_passes_the_ignore_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    let_in = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    needed = {*packages, "pyproject.toml", "requirements.lock", project["project"]["readme"], "LICENSE"}
    assert let_in == needed
    assert all((ROOT / name).exists() for name in needed)


def test_the_service_is_nobody_special_and_runs_the_program() -> None:
    recipe = read("Dockerfile")
    user = re.search(r"^USER (\d+):(\d+)$", recipe, flags=re.MULTILINE)
    assert user is not None
    assert f"--uid {user[1]} " in recipe
    assert int(user[1]) >= 10_000
    assert 'ENTRYPOINT ["quantrac"]' in recipe
    default = json.loads(re.search(r"^CMD (.*)$", recipe, flags=re.MULTILINE)[1])  # type: ignore[index]
    assert set(default) <= commands()
    assert "--require-hashes" in recipe


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """Answers /readyz with its attribute `status`."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(self.server.status if self.path == "/readyz" else 404)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Ready) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_asks_readyz(server: HTTPServer, status: int, healthy: bool) -> None:
    server.status = status  # type: ignore[attr-defined]
    found = re.search(r"HEALTHCHECK .*?CMD (\[.*?\])$", read("Dockerfile"), flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    program, *arguments = json.loads(found[1])
    assert program == "python"
    environ = os.environ | {"QUANTRAC_API_PORT": str(server.server_port)}
    done = subprocess.run([sys.executable, *arguments], env=environ, capture_output=True, timeout=30)
    assert (done.returncode == 0) is healthy
