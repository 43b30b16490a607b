"""What the page asks for, over HTTP from `quantrac api`, and how long the answer takes."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from .children import ROOT, Child, python, wait_for
from .messages import dev_eui
from .province import DEVICES, METRICS, SITES, STATIONS

_WARM_UP = 5
_MOST = 1000  # items of a page of a list
_POINTS = 1000  # of a chart
_SERIES = METRICS[0]


class Took(NamedTuple):
    """Milliseconds of so many requests, and items of an answer at most."""

    p50: float
    p95: float
    requests: int
    items: int


@contextmanager
def api(url: str, folder: Path) -> Iterator[httpx.Client]:
    """A running API of this database, and a client that may read."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {
        "QUANTRAC_DATABASE_URL": url,
        "QUANTRAC_DATA_DIR": str(folder),
        "QUANTRAC_API_PORT": str(port),
    }
    key = subprocess.run(
        python("-m", "quantrac", "key", "create", "--role", "viewer", "--name", "bench"),
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **env},
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    child = Child("api", python("-m", "quantrac", "api"), folder, env)
    base = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=120) as client:
        try:
            wait_for("the API", lambda: _ready(client), 60, child)
            yield client
        finally:
            child.stop()


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def measure(client: httpx.Client, end: datetime, repeat: int, seed: int = 3) -> dict[str, Took]:
    """Each question so many times, of stations and devices at random."""
    rng = random.Random(seed)

    def station() -> str:
        return dev_eui(rng.randrange(STATIONS))

    def span(days: int) -> dict[str, str]:
        return {"from": (end - timedelta(days=days)).astimezone(UTC).isoformat(), "to": end.isoformat()}

    def chart(days: int, **more: str) -> dict[str, str | int]:
        return {"device": station(), "points": _POINTS, **span(days), **more}

    few = max(10, repeat // 5)
    asked: dict[str, tuple[str, Callable[[], dict[str, str | int]], int]] = {
        "last_day": ("/series", lambda: chart(1, metric=_SERIES), repeat),
        "last_day_all": ("/series", lambda: chart(1), repeat),
        "quarter": ("/series", lambda: chart(90, metric=_SERIES), few),
        "last_year": ("/series", lambda: chart(365, metric=_SERIES), repeat),
        "year_of_days": ("/rollups", lambda: _days(station(), span(365)), repeat),
        "latest": ("/latest", lambda: {"metric": _SERIES, "limit": DEVICES}, few),
        "latest_all": ("/latest", lambda: {"limit": DEVICES * len(METRICS)}, few),
        "map": ("/stations", lambda: {"limit": SITES}, few),
    }
    return {name: _took(client, *question) for name, question in asked.items()}


def _days(device: str, span: dict[str, str]) -> dict[str, str | int]:
    return {"device": device, "metric": _SERIES, "resolution": "1d", "limit": _MOST, **span}


def _items(answer: dict[str, Any]) -> int:
    if "series" in answer:
        return sum(len(line["time"]) for line in answer["series"])
    return len(answer["items"])


def _took(
    client: httpx.Client, path: str, parameters: Callable[[], dict[str, str | int]], repeat: int
) -> Took:
    spent, items = [], 0
    for number in range(-_WARM_UP, repeat):
        asked = parameters()
        started = time.perf_counter()
        answer = client.get(f"/api/v1{path}", params=asked)
        seconds = time.perf_counter() - started
        if not answer.is_success:
            raise RuntimeError(f"{path} {asked}: {answer.status_code} {answer.text[:500]}")
        if number >= 0:
            spent.append(seconds * 1000)
            items = max(items, _items(answer.json()))
    if not items:
        raise RuntimeError(f"{path}: nothing in the answers")
    p50, p95 = np.percentile(spent, [50, 95])
    return Took(float(p50), float(p95), repeat, items)
