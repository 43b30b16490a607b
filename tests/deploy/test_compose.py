"""compose.yaml agrees with the program, the broker's configuration, the image and .env.example."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from telemetry.mqtt import parse_mqtt_url
from tests.deploy.files import (
    DEPLOY,
    acl,
    commands,
    compose,
    compose_variables,
    env_file,
    filled_in,
    mosquitto_conf,
    read,
)

_OURS = {"migrate", "ingest", "alert", "deliver", "api"}
_RUNNING = _OURS - {"migrate"}


@pytest.fixture
def services() -> dict[str, Any]:
    found = compose(filled_in())["services"]
    assert isinstance(found, dict)
    return found


def test_every_secret_is_demanded_and_every_variable_offered() -> None:
    variables, example = compose_variables(), env_file(".env.example")
    assert set(variables) - {"IMAGE_TAG"} == set(example)
    secrets = {name for name in example if name.endswith(("PASSWORD", "SECRET_KEY"))}
    assert {name for name, (kind, _) in variables.items() if kind == "?"} == secrets
    for name in secrets:
        with pytest.raises(KeyError, match=name):
            compose(filled_in() | {name: ""})


def test_defaults_are_those_of_the_example() -> None:
    example = env_file(".env.example")
    for name, (kind, default) in compose_variables().items():
        if kind == "-" and name in example:
            assert example[name] == default, name


def test_services_run_commands_of_the_program(services: dict[str, Any]) -> None:
    assert set(services) == _OURS | {"timescaledb", "mosquitto"}
    for name in _OURS:
        assert services[name]["command"] == [name]
    assert commands() >= _OURS


def test_addresses_and_users_agree(services: dict[str, Any]) -> None:
    environ = services["ingest"]["environment"]
    broker = parse_mqtt_url(environ["QUANTRAC_MQTT_URL"])
    assert broker.host in services
    assert str(broker.port) == mosquitto_conf()["listener"]
    assert broker.username in acl()
    assert broker.password == services["mosquitto"]["environment"]["MQTT_INGEST_PASSWORD"]
    assert environ["QUANTRAC_MQTT_CLIENT_ID"]
    statements = read("timescaledb/quantrac.sql")
    for name in _OURS:
        database = urlsplit(services[name]["environment"]["QUANTRAC_DATABASE_URL"])
        assert database.hostname in services
        assert (database.port, database.path) == (5432, f"/{database.username}")
        assert f"CREATE ROLE {database.username} LOGIN" in statements
        assert f"CREATE DATABASE {database.path[1:]} OWNER {database.username}" in statements
        assert database.password == services["timescaledb"]["environment"]["DATABASE_PASSWORD"]


def test_every_broker_user_has_a_password(services: dict[str, Any]) -> None:
    variables = {f"MQTT_{user.upper()}_PASSWORD" for user in acl()}
    assert set(services["mosquitto"]["environment"]) == variables
    script = read("mosquitto/set-passwords.sh")
    written = dict(re.findall(r'^\s*(\w+) "\$\{(MQTT_\w+):', script, flags=re.MULTILINE))
    assert written == {user: f"MQTT_{user.upper()}_PASSWORD" for user in acl()}


def test_only_api_and_broker_are_published_and_on_this_machine(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    api_port = services["api"]["environment"]["QUANTRAC_API_PORT"]
    assert published == {
        "api": [f"127.0.0.1:8000:{api_port}"],
        "mosquitto": [f"127.0.0.1:1883:{mosquitto_conf()['listener']}"],
    }
    assert f"EXPOSE {api_port}\n" in read("Dockerfile")
    assert f"QUANTRAC_API_PORT={api_port}\n" in read("Dockerfile")


def test_health_checks_look_where_the_services_listen(services: dict[str, Any]) -> None:
    for name in _RUNNING - {"api"}:  # the image's own check is the api's
        listen = services[name]["environment"]["QUANTRAC_METRICS_LISTEN"]
        port = listen.rpartition(":")[2]
        assert f"http://127.0.0.1:{port}/metrics" in services[name]["healthcheck"]["test"][-1]
    assert "healthcheck" not in services["api"]
    check = services["mosquitto"]["healthcheck"]["test"][-1]
    user, topic = re.search(r"-u (\w+) .* -t '(\S+)'", check).groups()  # type: ignore[union-attr]
    assert ("read", "$SYS/#") in acl()[user]
    assert topic.startswith("$SYS/")


def test_services_may_drain_restart_and_little_else(services: dict[str, Any]) -> None:
    for name, service in services.items():
        seconds = {"s": 1, "m": 60}[service["stop_grace_period"][-1]] * int(service["stop_grace_period"][:-1])
        assert seconds >= 30, name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
        assert "no-new-privileges:true" in service["security_opt"]
    for name in _OURS:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert "user" not in services[name]  # the image's, which is not root
    for name in _RUNNING:
        after = services[name]["depends_on"]
        assert after["migrate"] == {"condition": "service_completed_successfully"}
        assert after["timescaledb"] == {"condition": "service_healthy"}


def test_images_are_pinned(services: dict[str, Any]) -> None:
    images = [services["timescaledb"]["image"], services["mosquitto"]["image"]]
    images += re.findall(r"^FROM (\S+)", read("Dockerfile"), flags=re.MULTILINE)
    for image in images:
        tag = image.partition(":")[2]
        assert re.match(r"\d+\.\d+", tag), image
    assert re.fullmatch(r"timescale/timescaledb:[\d.]+-pg\d+", images[0])


def test_mounted_files_exist_where_the_broker_looks(services: dict[str, Any]) -> None:
    inside = set()
    for service in services.values():
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            inside.add(target)
            assert not source.startswith(".") or (DEPLOY / source).is_file(), volume
    conf = mosquitto_conf()
    assert {
        "/etc/mosquitto/mosquitto.conf",
        conf["acl_file"],
        conf["persistence_location"].rstrip("/"),
    } <= inside
    assert conf["password_file"].startswith(conf["persistence_location"])
