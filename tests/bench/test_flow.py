"""The Node-RED contender: a well-formed flow that decodes what the load holds."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bench import flow
from bench.messages import uplinks


def test_the_flow_leads_from_the_broker_to_the_insert() -> None:
    nodes = {node["id"]: node for node in flow.make_flow("127.0.0.1", 1883, "me")}
    assert json.loads(json.dumps(nodes)) == nodes
    way = ["uplinks"]
    while wires := nodes[way[-1]]["wires"]:
        ((after,),) = wires
        way.append(after)
    assert [nodes[node]["type"] for node in way] == ["mqtt in", "function", "function"]
    assert nodes[nodes["uplinks"]["broker"]]["clientid"] == "me"
    assert all(node["z"] in nodes for node in nodes.values() if "z" in node)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_decode_function_gives_six_rows() -> None:
    _, payload = next(uplinks(0, 1, 1_800_000_000_000_000_000))
    body = json.loads(payload)
    decode = next(n for n in flow.make_flow("h", 1, "c") if n["id"] == "decode")["func"]
    program = (
        f"const run = new Function('msg', {json.dumps(decode)});"
        f"console.log(JSON.stringify(run({{payload: {payload.decode()}}}).payload))"
    )
    said = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True).stdout
    row = json.loads(said)
    cells = [tuple(row[at : at + 4]) for at in range(0, len(row), 4)]
    who = (body["time"], body["deviceInfo"]["devEui"])
    fields = body["object"]
    assert sorted(cells) == sorted(
        (*who, metric, value)
        for metric, value in {
            "air_temperature": fields["temperatureSensor"]["0"],
            "air_humidity": fields["humiditySensor"]["0"],
            "air_pressure": fields["barometer"]["0"],
            "illuminance": fields["illuminanceSensor"]["0"],
            "soil_temperature": fields["temperatureSensor"]["1"],
            "soil_moisture": fields["humiditySensor"]["1"],
        }.items()
    )


def test_without_node_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(flow.Unavailable, match=r"Node\.js"):
        flow.install(tmp_path / "cache")
