"""The broker and the database of a run, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import paho.mqtt.client as paho
import psutil
import psycopg
from paho.mqtt.enums import CallbackAPIVersion
from psycopg import sql

from quantrac.embedded import EmbeddedPostgres
from quantrac.embedded.files import new_passwords, write_private
from quantrac.embedded.mosquitto import Mosquitto
from quantrac.embedded.ports import keep_port, reachable
from quantrac.embedded.probe import answers
from telemetry.mqtt import parse_mqtt_url

from .children import ROOT, Child, wait_for

_HOST = "127.0.0.1"
_FORGET_SECONDS = 20.0
_DEPLOY = ROOT / "deploy" / "mosquitto"
_USERS = ("ingest", "network", "monitor")


class Broker:
    """Mosquitto with the settings, users and rights of deploy/mosquitto, on a port of this machine."""

    def __init__(self, folder: Path) -> None:
        self._home = folder / "mosquitto"
        self._home.mkdir(mode=0o700)
        found = Mosquitto.find()
        if found is None:
            raise RuntimeError("no Mosquitto found: apt install mosquitto")
        self.version = found.version()
        self._port = keep_port(self._home / "port", _HOST)
        self._passwords = new_passwords(_USERS)
        found.prepare(self._home, self._passwords)
        (self._home / "users").rename(self._home / "passwords")
        shutil.copy(_DEPLOY / "acl", self._home / "acl")
        write_private(self._home / "mosquitto.conf", self._configuration())
        self._child = Child("mosquitto", found.command(self._home), self._home)

    def wait_ready(self) -> None:
        password = self._passwords["monitor"]
        wait_for(
            "Mosquitto", lambda: answers(reachable(_HOST), self._port, "monitor", password), 20, self._child
        )

    def url(self, user: str) -> str:
        return f"mqtt://{user}:{self._passwords[user]}@{_HOST}:{self._port}"

    def wait_subscribed(self, client_id: str, child: Child | None = None) -> None:
        """Wait until this client has a subscription, as the broker's log says."""
        wanted = f" {client_id} 1 "
        children = (child,) if child else ()
        wait_for(
            f"subscription of {client_id}",
            lambda: wanted in self._child.log.read_text(encoding="utf-8", errors="replace"),
            60,
            *children,
        )

    def forget(self, client_id: str) -> None:
        """End this client's session: else the broker keeps all that the next contenders get for it too."""
        address = parse_mqtt_url(self.url("ingest"))
        done = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=True)
        client.username_pw_set(address.username, address.password)
        client.on_connect = lambda *_: done.set()  # a clean session ends the one before
        client.connect(address.host, address.port)
        client.loop_start()
        if not done.wait(_FORGET_SECONDS):
            raise RuntimeError(f"the broker does not end the session of {client_id}")
        client.disconnect()
        client.loop_stop()

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._child.pid)

    def stop(self) -> None:
        self._child.stop()

    def _configuration(self) -> str:
        ours = {
            "listener": f"{self._port} {_HOST}",
            "password_file": str(self._home / "passwords"),
            "acl_file": str(self._home / "acl"),
            "persistence_location": f"{self._home}/",
        }
        if os.geteuid() == 0:
            ours["user"] = "root"  # else it drops to its own user, who cannot read these files
        lines = (_DEPLOY / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line and line[0] != "#" and line.split()[0] not in ours]
        return "\n".join([*kept, *(f"{k} {v}" for k, v in ours.items()), "log_type subscribe", ""])


class Database:
    """The embedded PostgreSQL, or the server of `url`; every contender gets a database of its own on it."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self._embedded = None if url else EmbeddedPostgres(folder / "postgres")
        self._server = url or ""
        self._made: list[str] = []
        self.version = self.edition = ""

    def start(self) -> None:
        if self._embedded is not None:
            self._server = self._embedded.start()
        with psycopg.connect(self._server) as connection:
            self.version = connection.execute("SHOW server_version").fetchone()[0]  # type: ignore[index]

    def create(self, name: str) -> str:
        """A fresh, empty database; its address."""
        with psycopg.connect(self._server, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_full(name))))
        self._made.append(_full(name))
        return self.url_of(name)

    def url_of(self, name: str) -> str:
        """The address of one that was created."""
        return urlunsplit(urlsplit(self._server)._replace(path=f"/{_full(name)}"))

    def drop(self) -> None:
        """Drop the databases of this run."""
        with psycopg.connect(self._server, autocommit=True) as admin:
            while self._made:
                # Without FORCE, which would need the right to end autovacuum: it steps aside by itself.
                name = sql.Identifier(self._made.pop())
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def postmaster(self) -> psutil.Process | None:
        """The server's first process; None when it is not on this machine."""
        with psycopg.connect(self._server) as connection:
            pid = connection.info.backend_pid
            try:
                parent = psutil.Process(pid).parent()
            except psutil.NoSuchProcess:
                return None
        return parent if parent is not None and "postgres" in parent.name() else None

    def stop(self) -> None:
        if self._embedded is not None:
            self._embedded.stop()


def _full(name: str) -> str:
    return f"quantrac_bench_{name}_{os.getpid()}"
