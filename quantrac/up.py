"""What `quantrac up` does: servers, schema, services, in this order, and back."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog
from rich.console import Console

from alerting.delivery.settings import DeliverySettings
from api.accounts import add_account
from api.settings import ApiSettings
from ingest.settings import IngestSettings
from quantrac.context import Context, EmbeddedSettings, Runtime
from quantrac.embedded import BrokerInfo, EmbeddedBroker, EmbeddedPostgres
from quantrac.embedded.files import write_private
from quantrac.embedded.ports import reachable
from quantrac.seed import seed
from quantrac.supervisor import Supervisor
from simulators.scenario import load_scenario
from telemetry.errors import QuantracError, SettingsError
from telemetry.settings import StoreSettings, load
from telemetry.store.migrate import migrate
from telemetry.store.policies import apply_settings
from telemetry.store.pool import async_connect, connect

_log = structlog.get_logger()
_SERVICES = ("api", "ingest", "alert", "deliver")
_STOP_ORDER = ("simulate", "ingest", "alert", "deliver", "api")
ADMIN_FILE = "admin-password"
_PORT_SECONDS = 15.0
_READY_SECONDS = 60.0
_WATCH_SECONDS = 2.0
DEMO_HISTORY_HOURS = 24


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; `scenario` None plays nothing."""

    scenario: str | None = None
    host: str | None = None
    port: int | None = None


class _Servers:
    """The embedded database and broker, those of them that no setting replaces."""

    def __init__(self, data_dir: Path, *, database: bool, broker: bool) -> None:
        self.postgres = EmbeddedPostgres(data_dir) if database else None
        host = load(EmbeddedSettings).broker_host
        self.broker = EmbeddedBroker(data_dir, host=host) if broker else None

    async def start(self) -> tuple[str | None, BrokerInfo | None]:
        """Their address; harmless where they run already."""
        url, info = await asyncio.gather(
            asyncio.to_thread(self.postgres.start) if self.postgres else _nothing(),
            asyncio.to_thread(self.broker.start) if self.broker else _nothing(),
        )
        return url, info

    async def stop(self) -> None:
        for server in (self.broker, self.postgres):
            if server is not None:
                await asyncio.to_thread(server.stop)

    async def watch(self) -> None:
        """Bring back what ends by itself."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for server in (self.postgres, self.broker):
                if server is None:
                    continue
                name = type(server).__name__
                try:
                    if not await asyncio.to_thread(server.is_running):
                        _log.error("embedded_server_ended", server=name)
                        await asyncio.to_thread(server.start)
                except Exception as error:  # a full disk, say: it may pass
                    _log.error("embedded_server_cannot_start", server=name, error=str(error))


async def run(context: Context, options: Options) -> None:
    """Bring everything up, say where it is, and stay until SIGINT or SIGTERM; then stop in order.

    Raises:
        QuantracError: something cannot start; what was started is stopped again.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if options.scenario is not None:
        load_scenario(options.scenario)
    api = load(ApiSettings, overrides={"api_host": options.host, "api_port": options.port})
    store, ingest = load(StoreSettings), load(IngestSettings)
    load(DeliverySettings)  # its service would say so too, but only in the log
    context.box()  # makes the secret key, or says what is wrong with it, before anything runs
    await _wait_for_port(api.api_host, api.api_port)
    data_dir = context.common.data_dir
    servers = _Servers(data_dir, database=not store.database_url, broker=not ingest.mqtt_url)
    supervisor = Supervisor()
    watching: asyncio.Task[None] | None = None
    try:
        url, broker = await servers.start()
        url = store.database_url or url
        assert url is not None
        await asyncio.to_thread(_prepare, url, store)
        password = await _first_admin(url, data_dir)
        host = reachable(api.api_host)
        address = f"http://{f'[{host}]' if ':' in host else host}:{api.api_port}"
        _runtime(url, ingest, broker, address).write(data_dir)
        watching = asyncio.create_task(servers.watch(), name="watch-servers")
        arguments = ["--data", str(data_dir)]
        for service in _SERVICES:
            more = ["--host", api.api_host, "--port", str(api.api_port)] if service == "api" else []
            supervisor.start(service, [*arguments, *more])
        if await _ready(address, stop):
            if options.scenario is not None:
                play = [options.scenario, "--register", "--keep-going", "--history", str(DEMO_HISTORY_HOURS)]
                supervisor.start("simulate", [*play, *arguments])
            _announce(address, password, broker, options.scenario, data_dir)
        await stop.wait()
        _log.info("stopping")
    finally:
        await supervisor.stop(_STOP_ORDER)
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await servers.stop()


async def _nothing() -> None:
    return None


async def _wait_for_port(host: str, port: int) -> None:
    """Services of an `up` that was killed let go of the port within seconds; anybody else does not."""
    deadline = asyncio.get_running_loop().time() + _PORT_SECONDS
    while True:
        try:
            with socket.create_server((host, port), reuse_port=False):
                return
        except OSError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise SettingsError(
                    "QUANTRAC_API_PORT",
                    f"cannot listen on {host}:{port} ({error.strerror})",
                    "Stop what uses it, or choose another port with --port.",
                ) from None
        await asyncio.sleep(0.2)


def _runtime(url: str, ingest: IngestSettings, broker: BrokerInfo | None, address: str) -> Runtime:
    if broker is None:
        everyone = dict.fromkeys(("ingest", "simulator", "network", "monitor"), ingest.mqtt_url)
        return Runtime(url, everyone, ingest.mqtt_version, address)
    return Runtime(url, broker.urls, "3.1.1" if broker.kind == "nats" else "5", address)


def _prepare(url: str, store: StoreSettings) -> None:
    migrate(url, lock_timeout=store.database_migrate_lock_timeout)
    seed(url)
    with connect(url, application="quantrac up", autocommit=True) as connection:
        for change in apply_settings(connection, store):
            _log.info("policy_changed", change=change)


async def _first_admin(url: str, data_dir: Path) -> str | None:
    """The first admin's password, as long as nobody changed it; made when there is no account yet."""
    file = data_dir / ADMIN_FILE
    async with await async_connect(url, application="quantrac up") as connection:
        row = await (await connection.execute("SELECT count(*) AS n FROM account")).fetchone()
        if row is not None and row["n"] == 0:
            password = secrets.token_urlsafe(12)
            write_private(file, password)
            await add_account(connection, login="admin", password=password, role="admin")
            return password
        cursor = await connection.execute("SELECT must_change FROM account WHERE login = 'admin'")
        row = await cursor.fetchone()
    if row is not None and row["must_change"] and file.exists():
        return file.read_text(encoding="utf-8").strip()
    file.unlink(missing_ok=True)
    return None


async def _ready(address: str, stop: asyncio.Event) -> bool:
    """Wait until the API answers that everything it needs is there."""
    deadline = asyncio.get_running_loop().time() + _READY_SECONDS
    async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
        while not stop.is_set():
            with suppress(httpx.HTTPError):
                if (await client.get(f"{address}/readyz")).status_code == 200:
                    return True
            if asyncio.get_running_loop().time() > deadline:
                raise QuantracError(
                    f"{address}/readyz does not answer within {_READY_SECONDS:.0f} s; see the log above"
                )
            await asyncio.sleep(0.05)
    return False


def _announce(
    address: str, password: str | None, broker: BrokerInfo | None, scenario: str | None, data_dir: Path
) -> None:
    console = Console(soft_wrap=True, highlight=False)
    lines = [f"Quantrac is running: {address}"]
    if password is not None:
        lines.append(f"  log in as admin with {password}   (you will choose your own)")
    if broker is not None:
        lines.append(f"  broker ({broker.kind} {broker.version}) on {broker.host}:{broker.port}")
        lines.append(f"  for a network server: {broker.urls['network']}")
        lines += [f"  note: {warning}" for warning in broker.warnings]
    if scenario is not None:
        lines.append(f"  playing the scenario {scenario}; everything it sends is marked simulated")
    lines.append(f"  for other commands: export QUANTRAC_DATA_DIR={data_dir.resolve()}")
    lines.append("Ctrl-C stops it.")
    console.print("\n".join(lines), markup=False)
