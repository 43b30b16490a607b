"""Every setting that a deployment file names exists, and every value in it is a good one."""

from __future__ import annotations

import re

import pytest

from telemetry.mqtt import parse_mqtt_url
from telemetry.settings import FILE_VARIABLE
from tests.deploy.files import DEPLOY, KNOWN_VARIABLES, acl, check_settings, compose, env_file, filled_in

_FILES = sorted(p.relative_to(DEPLOY).as_posix() for p in DEPLOY.rglob("*") if p.is_file())


@pytest.mark.parametrize("path", _FILES)
def test_every_variable_named_is_a_setting(path: str) -> None:
    text = (DEPLOY / path).read_text(encoding="utf-8")
    named = set(re.findall(r"\bQUANTRAC_[A-Z_]+\b", text))
    others = {FILE_VARIABLE, "QUANTRAC_TEST_DATABASE_URL"}
    assert named - KNOWN_VARIABLES - others == set()


def test_the_values_of_every_compose_service_are_good() -> None:
    for service in compose(filled_in())["services"].values():
        check_settings(service.get("environment", {}))


def test_the_values_of_the_units_are_good() -> None:
    environ = env_file("systemd/quantrac.env.example")
    check_settings(environ)
    assert parse_mqtt_url(environ["QUANTRAC_MQTT_URL"]).username in acl()


def test_no_secret_is_committed() -> None:
    for path in (".env.example", "systemd/quantrac.env.example"):
        for name, value in env_file(path).items():
            if name.endswith(("PASSWORD", "SECRET_KEY")):
                assert value == "", f"{path}: {name}"
            elif name.endswith(("DATABASE_URL", "MQTT_URL")):
                assert ":CHANGE-ME@" in value, f"{path}: {name}"
