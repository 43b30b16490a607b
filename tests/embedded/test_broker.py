"""The embedded broker, both kinds, through starts, stops and deaths."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from quantrac.embedded import EmbeddedBroker, EmbeddedServerError
from quantrac.embedded import broker as broker_module
from quantrac.embedded.mosquitto import Mosquitto
from quantrac.embedded.nats import Nats
from quantrac.embedded.probe import answers
from quantrac.embedded.process import ServerProcess, wait_until
from quantrac.embedded.roles import ROLES
from simulators.downlinks import TOPICS
from tests.wait import PATIENCE

UP = "application/a1/device/24e124136b502217/event/up"
DOWN = "application/a1/device/24e124136b502217/command/down"
LAUNCHER = """
import sys
from pathlib import Path
from quantrac.embedded import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]), kind=sys.argv[2])
print(broker.start().port, flush=True)
print(broker.pid, flush=True)
sys.stdin.read()
"""


def kill(pid: int) -> None:
    process = ServerProcess.of(pid)
    assert process is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not process.alive(), PATIENCE)


def until_saved(data_dir: Path, kind: str) -> None:
    """NATS stores before it acknowledges; Mosquitto, which has one thread, at its next save."""
    if kind == "mosquitto":
        file, now = data_dir / "broker" / "mosquitto" / "store" / "mosquitto.db", time.time()
        assert wait_until(lambda: file.exists() and file.stat().st_mtime > now, PATIENCE)


def test_info(broker, kind: str) -> None:
    launcher = broker()
    info = launcher.start()
    assert info.kind == kind
    assert info.version[0].isdigit()
    assert set(info.urls) == set(ROLES)
    assert all(url.endswith(f"@127.0.0.1:{info.port}") for url in info.urls.values())
    assert (kind == "nats") == any("no shared subscriptions" in warning for warning in info.warnings)
    assert launcher.is_running()
    launcher.stop()
    assert not launcher.is_running()
    assert broker().start() == info


def test_only_with_a_password(broker, mqtt) -> None:
    info = broker().start()
    assert not answers("127.0.0.1", info.port, "monitor", "wrong")
    assert mqtt(f"mqtt://127.0.0.1:{info.port}", "anonymous").answer == "Not authorized"
    assert mqtt(info.urls["ingest"], "known").answer == "Success"


def test_simulator_publishes_and_hears_only_commands(broker, mqtt) -> None:
    urls = broker().start().urls
    ingest, simulator, admin = (mqtt(urls[role], role) for role in ("ingest", "simulator", "admin"))
    for topic in TOPICS:
        assert simulator.subscribe(topic) == [1]
    for topic in (DOWN, "v3/app@tenant/devices/d1/down/push"):
        ingest.publish(topic, b"command")
        assert simulator.take(1) == [(topic, b"command")]
    assert ingest.subscribe("#") == [1]
    simulator.subscribe("#")
    simulator.publish(UP, b"simulated")
    simulator.publish("v3/app@tenant/devices/d1/up", b"too")
    assert ingest.take(2) == [(UP, b"simulated"), ("v3/app@tenant/devices/d1/up", b"too")]
    admin.publish("anything/at/all", b"hello")
    assert ingest.take(1) == [("anything/at/all", b"hello")]
    # One connection is served in order: what was for the simulator came before this acknowledgement.
    simulator.publish(UP, b"last")
    assert simulator.received.empty()


def test_simulator_publishes_nowhere_else(broker, mqtt) -> None:
    urls = broker().start().urls
    watch = mqtt(urls["monitor"], "watch")
    watch.subscribe("#")
    mqtt(urls["simulator"], "simulator").publish_unheard("elsewhere", b"no")
    mqtt(urls["admin"], "admin").publish(UP, b"marker")
    assert watch.take(1) == [(UP, b"marker")]


def test_ingest_sends_commands_but_no_uplinks(broker, mqtt) -> None:
    urls = broker().start().urls
    watch, ingest = mqtt(urls["admin"], "watch"), mqtt(urls["ingest"], "ingest")
    watch.subscribe("#")
    ingest.publish(DOWN, b"command")
    ingest.publish_unheard(UP, b"forged")
    watch.publish(UP, b"marker")
    assert watch.take(2) == [(DOWN, b"command"), (UP, b"marker")]


def test_queue_and_retained_survive_the_brokers_death(broker, mqtt, data_dir: Path, kind: str) -> None:
    launcher = broker()
    urls = launcher.start().urls
    session = mqtt(urls["ingest"], "session", clean=False)
    session.subscribe("application/+/device/+/event/+")
    session.close()
    sent = [b"%d" % number for number in range(3000)]
    publisher = mqtt(urls["simulator"], "publisher")
    publisher.publish(UP, *sent)
    publisher.publish("application/a1/state", b"retained", retain=True)
    until_saved(data_dir, kind)
    kill(launcher.pid)
    assert not launcher.is_running()
    assert launcher.start().urls == urls
    session = mqtt(urls["ingest"], "session", clean=False)
    assert sorted(payload for _, payload in session.take(len(sent))) == sorted(sent)
    session.subscribe("application/a1/state")
    assert session.take(1) == [("application/a1/state", b"retained")]


def test_broker_that_outlived_its_killed_launcher_is_adopted(
    broker, mqtt, data_dir: Path, kind: str, run_child
) -> None:
    first = run_child(LAUNCHER, data_dir, kind)
    port, pid = int(first.line()), int(first.line())
    first.kill()
    launcher = broker()
    info = launcher.start()
    assert (info.port, launcher.pid) == (port, pid)
    assert mqtt(info.urls["ingest"], "known").answer == "Success"
    launcher.stop()
    assert ServerProcess.of(pid) is None


@pytest.mark.parametrize("lost", ["port", "passwords.json"])
def test_broker_that_no_longer_fits_is_replaced(broker, data_dir: Path, lost: str) -> None:
    first, second = broker(), broker()
    first.start()
    pid = first.pid
    (data_dir / "broker" / lost).unlink()
    second.start()
    assert second.is_running()
    assert not first.is_running()
    assert second.pid != pid


def test_another_host_means_another_configuration(broker, mqtt) -> None:
    first, second = broker(), broker(host="0.0.0.0")
    first.start()
    info = second.start()
    assert not first.is_running()
    assert any("without TLS" in warning for warning in info.warnings)
    assert mqtt(info.urls["ingest"], "known").answer == "Success"


def test_port_taken_by_another_program(broker, mqtt) -> None:
    launcher = broker()
    before = launcher.start()
    launcher.stop()
    with socket.create_server(("127.0.0.1", before.port)):
        info = launcher.start()
        assert info.port != before.port
        assert any(f"port {info.port}" in warning for warning in info.warnings)
        assert mqtt(info.urls["ingest"], "known").answer == "Success"
    launcher.stop()
    assert launcher.start().port == info.port


def test_port_taken_between_choice_and_use(broker, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = []

    def choose(*arguments: object) -> int:
        choices.append(real(*arguments))
        return taken if len(choices) < 3 else choices[-1]

    real = broker_module.keep_port
    monkeypatch.setattr(broker_module, "keep_port", choose)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        launcher = broker()
        assert launcher.start().port == choices[-1]
        assert launcher.is_running()


def test_nats_serves_where_mosquitto_is_missing_and_keeps_its_queues(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = EmbeddedBroker(data_dir)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Mosquitto, "find", lambda: None)
            assert launcher.start().kind == "nats"
        launcher.stop()
        assert launcher.start().kind == "nats"
    finally:
        launcher.stop()


def test_one_kind_replaces_the_other(data_dir: Path) -> None:
    if Mosquitto.find() is None:
        pytest.skip("Mosquitto is not installed")
    first, second = (EmbeddedBroker(data_dir, kind=kind) for kind in ("mosquitto", "nats"))
    try:
        first.start()
        assert second.start().kind == "nats"
        assert not first.is_running()
    finally:
        second.stop()


def test_no_broker_at_all_names_the_cure(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mosquitto, "find", lambda: None)
    monkeypatch.setattr(Nats, "find", lambda: None)
    with pytest.raises(EmbeddedServerError, match=r"apt install mosquitto.*QUANTRAC_MQTT_URL"):
        EmbeddedBroker(data_dir).start()


def test_fault_of_the_broker_shows_its_log(broker, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "keep_port", lambda *_: 1883)
    with pytest.raises(EmbeddedServerError, match=f"{kind}.*does not start"):
        broker(host="203.0.113.7").start()
