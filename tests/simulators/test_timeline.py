"""The story of each scenario, told by the decoded bytes of a recorded run."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from decoders.normalise import normalise
from decoders.registry import load_codecs
from simulators.run import DEFAULT_START
from simulators.scenario import Scenario, load_scenario

Series = dict[tuple[str, str], list[tuple[float, float]]]


def _series(scenario: Scenario, lines: list[dict[str, Any]]) -> Series:
    """(seconds after the start, value) by station and metric, of the uplinks in `lines`."""
    codecs = load_codecs()
    devices = {device.dev_eui: device for device in scenario.devices}
    series: Series = {}
    for line in lines:
        body = line["body"]
        if "uplink_message" in body:
            eui = body["end_device_ids"]["dev_eui"].lower()
            port, data = body["uplink_message"]["f_port"], body["uplink_message"]["frm_payload"]
        elif "fCnt" in body:
            eui, port, data = body["deviceInfo"]["devEui"], body["fPort"], body["data"]
        else:
            continue
        device = devices[eui]
        type_ = scenario.device_types[device.device_type]
        fields = codecs.get(type_.codec).decode(port, base64.b64decode(data))
        at = (datetime.fromisoformat(line["time"]) - DEFAULT_START).total_seconds()
        for value in normalise(fields, type_, device.variables).values:
            series.setdefault((device.station, value.metric), []).append((at, value.value))
    return series


def _above(series: list[tuple[float, float]], level: float) -> tuple[float, float]:
    """First time at or above `level`, and the first time below it for good."""
    times = [at for at, value in series if value >= level]
    return times[0], next(at for at, _ in series if at > times[-1])


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_flood(record: Callable[..., list[dict[str, Any]]], flood: Scenario, seed: int) -> None:
    series = _series(flood, record(flood, seed=seed))
    phu_hiep = series["phu-hiep", "water.level"]
    assert phu_hiep[0][1] < 104.4
    first, last = _above(phu_hiep, 104.5)
    assert 40 <= first <= 60
    assert 6 * 60 <= last <= 8 * 60
    second, second_end = _above(phu_hiep, 105.5)
    assert 90 <= second <= 130
    assert second_end - second > 120
    assert max(value for _, value in phu_hiep) < 106.5

    ta_lai = series["ta-lai", "water.level"]
    assert ta_lai[0][1] < 112.0 < max(value for _, value in ta_lai) < 113.0
    tri_an = series["tri-an", "water.level"]
    assert 0.3 < max(value for _, value in tri_an) - tri_an[0][1] < 1.0
    bien_hoa = [value for _, value in series["bien-hoa", "water.level"]]
    assert max(bien_hoa) < 1.8
    assert max(bien_hoa) - min(bien_hoa) > 1.0
    rain = series["bao-loc", "rain.total"]
    assert rain[-1][1] - rain[0][1] > 40


def test_values_move_visibly(flood: Scenario, flood_lines: list[dict[str, Any]]) -> None:
    for name, values in _series(flood, flood_lines).items():
        if name[1] not in ("water.level", "rain.total", "air.temperature"):
            continue
        gaps = [later - earlier for (earlier, _), (later, _) in pairwise(values) if later > earlier]
        assert 1.5 <= sum(gaps) / len(gaps) <= 5.0, name


def test_a_calm_day_reaches_no_level(record: Callable[..., list[dict[str, Any]]]) -> None:
    calm = load_scenario("calm-day")
    series = _series(calm, record(calm))
    for code, station in calm.stations.items():
        for metric, levels in station.thresholds.items():
            highest = max((value for _, value in series.get((code, metric), [])), default=None)
            if highest is not None:
                assert highest < levels[0]["value"], code
