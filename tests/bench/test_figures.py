"""Percentiles, ratios, tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.cpu import shares
from bench.figures import CONTENDERS, LOADS, Figures, table
from bench.latency import Latency, first_seen, percentiles
from bench.measure import Sustained
from bench.run import BEGIN, END, write_into


def sustained(rate: float) -> Sustained:
    cpu = {"consumer": 40.0, "database": 20.0, "broker": 10.0, "bench": 1.0}
    return Sustained(rate, cpu, backlog=5000.0, elsewhere=0.02, messages=1000, seconds=1.0)


@pytest.fixture
def figures() -> Figures:
    found = Figures()
    for contender, rate in zip(CONTENDERS, (50_000, 30_000, 33_000, 4000, 1500), strict=True):
        found.sustained[contender] = sustained(rate)
    for load in LOADS:
        found.latency[load] = Latency(100.0, 5.0, 12.5, 14.0, 1000, 0.03)
    return found


def test_percentiles_are_values_that_occurred() -> None:
    assert percentiles(np.arange(1.0, 1001.0)) == (500.0, 990.0, 1000.0)
    assert percentiles(np.array([3.0])) == (3.0, 3.0, 3.0)


def test_a_commit_counts_from_the_first_look_that_showed_it() -> None:
    looks = [(10.0, {1: 5}), (11.0, {1: 7, 2: 1}), (12.0, {1: 7, 2: 3})]
    assert first_seen({1: 4}, looks) == {
        (1, 5): 10.0, (1, 6): 11.0, (1, 7): 11.0, (2, 1): 11.0, (2, 2): 12.0, (2, 3): 12.0,
    }  # fmt: skip


def test_what_was_not_metered_ran_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda: 2)
    used, elsewhere = shares({"machine": 10.0, "broker": 1.0}, {"machine": 18.0, "broker": 3.0}, 10.0)
    assert used == {"broker": 2.0}
    assert elsewhere == pytest.approx(0.3)


def test_json_holds_the_agreed_names(figures: Figures) -> None:
    found = json.loads(json.dumps(figures.as_json()))
    assert found["client_only"] == 50_000
    assert (found["end_to_end"], found["shared_two"]) == (30_000, 33_000)
    assert (found["tutorial"], found["node_red"]) == (1500, 4000)
    assert (found["ingest_cpu_us"], found["database_cpu_us"], found["broker_cpu_us"]) == (40, 20, 10)
    assert found["p99_ms"] == {"twenty": 12.5, "half": 12.5, "eighty": 12.5, "at_100": 12.5}
    assert found["goals"]["one process : tutorial script"] == 20
    assert {"machine", "date", "python", "versions", "quick"} <= found.keys()


def test_what_was_not_measured_is_null() -> None:
    found = Figures(failures={"node_red": "no Node.js"}).as_json()
    assert found["node_red"] is found["client_only"] is found["ingest_cpu_us"] is None
    assert found["failures"] == {"node_red": "no Node.js"}


def test_tables_show_rates_ratios_and_why_there_is_none(figures: Figures) -> None:
    del figures.sustained["node_red"]
    figures.failures["node_red"] = "npm install failed"
    text = figures.tables()
    assert "30,000" in text
    assert "20.00 ×" in text
    assert "not measured: npm install failed" in text
    assert all(line.startswith("| ") for line in text.splitlines() if line)


def test_a_table_is_markdown_with_even_columns() -> None:
    lines = table(("a", "bb"), [("long name", "1"), ("x", "22222")]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| --------- | ----: |"


def test_tables_go_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_into(page, "new")
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no"):
        write_into(page, "new")
