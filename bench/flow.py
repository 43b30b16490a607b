"""The Node-RED contender: MQTT in → function (decode) → function (insert with `pg`), made and run.

Node-RED and the PostgreSQL driver come from npm, once, into a cache folder. The driver is called from a
function node: it is what PostgreSQL nodes wrap, so this is the flow at its fastest.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from telemetry.mqtt import parse_mqtt_url

from .children import Child

_FILES = Path(__file__).parent / "node_red"
_OLDEST_NODE = (18, 5)
_INSTALL_SECONDS = 600
_INSTALL = ("install", "--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts")


class Unavailable(Exception):
    """Node-RED cannot be had here; says why."""


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quantrac-bench" / "node-red"


def install(cache: Path) -> dict[str, str]:
    """Make sure that what `package.json` names lies in the folder; versions by name.

    Raises:
        Unavailable: no Node.js, one that is too old, or npm could not bring it.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Unavailable("needs Node.js with npm on PATH (apt install nodejs npm)")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(int(part) for part in re.findall(r"\d+", said)[:2]) < _OLDEST_NODE:
        raise Unavailable(f"needs Node.js {'.'.join(map(str, _OLDEST_NODE))} or newer, found {said}")
    wanted = json.loads((_FILES / "package.json").read_text(encoding="utf-8"))["dependencies"]
    if any(_installed(cache, name) != version for name, version in wanted.items()):
        cache.mkdir(parents=True, exist_ok=True)
        shutil.copy(_FILES / "package.json", cache)
        try:
            done = subprocess.run(
                [npm, *_INSTALL], cwd=cache, capture_output=True, text=True, timeout=_INSTALL_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"npm install took more than {_INSTALL_SECONDS} s") from None
        if done.returncode != 0:
            raise Unavailable(f"npm install failed: {_last_error(done.stderr)}")
    return {"Node.js": said.removeprefix("v"), **{name: str(version) for name, version in wanted.items()}}


def start(folder: Path, cache: Path, mqtt_url: str, database_url: str, client_id: str) -> Child:
    """Node-RED with the flow, in a user folder of its own below `folder`."""
    address = parse_mqtt_url(mqtt_url)
    home = folder / "node-red"
    home.mkdir()
    (home / "node_modules").symlink_to(cache.resolve() / "node_modules")
    shutil.copy(_FILES / "settings.js", home)
    nodes = make_flow(address.host, address.port, client_id)
    (home / "flow.json").write_text(json.dumps(nodes), encoding="utf-8")
    secrets = {"broker": {"user": address.username, "password": address.password}}
    (home / "flow_cred.json").write_text(json.dumps(secrets), encoding="utf-8")
    program = home / "node_modules" / "node-red" / "red.js"
    command = [
        "node",
        str(program),
        "--userDir",
        str(home),
        "--settings",
        str(home / "settings.js"),
        "flow.json",
    ]
    return Child(client_id, command, folder, {"DATABASE_URL": database_url})


def make_flow(host: str, port: int, client_id: str) -> list[dict[str, Any]]:
    """The flow file's nodes; the names of their properties are those Node-RED's editor writes."""
    code = {
        name: (_FILES / f"{name}.js").read_text(encoding="utf-8")
        for name in ("decode", "open", "insert", "close")
    }
    broker = {
        "id": "broker",
        "type": "mqtt-broker",
        "broker": host,
        "port": str(port),
        "clientid": client_id,
        "autoConnect": True,
        "usetls": False,
        "protocolVersion": "4",
        "keepalive": "60",
        "cleansession": True,
    }
    uplinks = {
        "id": "uplinks",
        "type": "mqtt in",
        "z": "flow",
        "topic": "application/+/device/+/event/up",
        "qos": "1",
        "datatype": "json",
        "broker": "broker",
        "inputs": 0,
        "wires": [["decode"]],
    }
    function = {"type": "function", "z": "flow", "libs": [], "timeout": 0, "noerr": 0}
    decode = {"id": "decode", **function, "func": code["decode"], "outputs": 1, "wires": [["insert"]]}
    insert = {
        "id": "insert",
        **function,
        "func": code["insert"],
        "initialize": code["open"],
        "finalize": code["close"],
        "outputs": 0,
        "wires": [],
    }
    return [{"id": "flow", "type": "tab", "label": "Uplinks"}, broker, uplinks, decode, insert]


def _installed(cache: Path, name: str) -> str | None:
    try:
        package = json.loads((cache / "node_modules" / name / "package.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return str(package["version"])


def _last_error(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith("npm error")]
    return lines[0].removeprefix("npm error").strip() if lines else "no reason given"
