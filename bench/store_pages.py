"""What the page asks for, over HTTP from `quantrac api`, and how long the answer takes."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
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
_Asked = dict[str, str | int]


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
    """Each question so many times, of stations at random.

    Before it counts, each is asked of every station once: what has just come is in memory where it runs for
    long, but not here, where tables were vacuumed and packed a moment ago.
    """
    stations = [dev_eui(n) for n in range(STATIONS)]

    def span(days: int) -> dict[str, str]:
        return {"from": (end - timedelta(days=days)).astimezone(UTC).isoformat(), "to": end.isoformat()}

    def chart(device: str, days: int, **more: str) -> _Asked:
        return {"device": device, "points": _POINTS, **span(days), **more}

    def days(device: str) -> _Asked:
        return {"device": device, "metric": _SERIES, "resolution": "1d", "limit": _MOST, **span(365)}

    few = max(10, repeat // 5)
    charts: dict[str, tuple[str, Callable[[str], _Asked], int]] = {
        "last_day": ("/series", lambda device: chart(device, 1, metric=_SERIES), repeat),
        "last_day_all": ("/series", lambda device: chart(device, 1), repeat),
        "quarter": ("/series", lambda device: chart(device, 90, metric=_SERIES), few),
        "last_year": ("/series", lambda device: chart(device, 365, metric=_SERIES), repeat),
        "year_of_days": ("/rollups", days, repeat),
    }
    overviews: dict[str, tuple[str, _Asked]] = {
        "latest": ("/latest", {"metric": _SERIES, "limit": DEVICES}),
        "latest_all": ("/latest", {"limit": DEVICES * len(METRICS)}),
        "map": ("/stations", {"limit": SITES}),
    }
    rng = random.Random(seed)
    return {
        name: _took(client, path, [asked(one) for one in [*stations, *rng.choices(stations, k=count)]], count)
        for name, (path, asked, count) in charts.items()
    } | {
        name: _took(client, path, [asked] * (_WARM_UP + few), few)
        for name, (path, asked) in overviews.items()
    }


def _items(answer: dict[str, Any]) -> int:
    if "series" in answer:
        return sum(len(line["time"]) for line in answer["series"])
    return len(answer["items"])


def _took(client: httpx.Client, path: str, questions: Sequence[_Asked], counted: int) -> Took:
    """So many of the questions count, the last ones."""
    spent, items = [], 0
    for number, asked in enumerate(questions, counted - len(questions)):
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
    return Took(float(p50), float(p95), counted, items)
