"""systemd's units: they start commands that exist, and systemd itself finds nothing wrong with them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, KNOWN_VARIABLES, commands, env_file, read

_SERVICES = ("migrate", "ingest", "alert", "deliver", "api")
_UNITS = DEPLOY / "systemd"
_COMMON = "systemd/quantrac-.service.d/common.conf"


def _values(path: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", read(path), flags=re.MULTILINE)


def test_each_service_starts_its_command() -> None:
    assert {p.stem.removeprefix("quantrac-") for p in _UNITS.glob("*.service")} == set(_SERVICES)
    for name in _SERVICES:
        assert _values(f"systemd/quantrac-{name}.service", "ExecStart") == [
            f"/opt/quantrac/bin/quantrac {name}"
        ]
    assert set(_SERVICES) <= commands()


def test_services_drain_come_back_and_follow_the_migration() -> None:
    for name in _SERVICES[1:]:
        unit = f"systemd/quantrac-{name}.service"
        assert _values(unit, "Restart") == ["always"]
        assert int(_values(unit, "TimeoutStopSec")[0]) >= 30
        assert _values(unit, "After") == ["quantrac-migrate.service"]
        assert _values(unit, "WantedBy") == ["quantrac.target"]


def test_settings_of_one_unit_do_not_clash_with_those_of_all() -> None:
    shared = env_file("systemd/quantrac.env.example")
    ports = []
    for name in _SERVICES:
        for assignment in _values(f"systemd/quantrac-{name}.service", "Environment"):
            variable, _, value = assignment.partition("=")
            assert variable in KNOWN_VARIABLES
            assert variable not in shared  # the file would win
            ports.append(value)
    assert len(set(ports)) == len(ports) == 3


def test_user_and_files_are_those_of_the_instructions() -> None:
    readme = read("README.md")
    (user,) = _values(_COMMON, "User")
    (environment,) = _values(_COMMON, "EnvironmentFile")
    assert f"useradd --system --home-dir /var/lib/quantrac --shell /usr/sbin/nologin {user}\n" in readme
    assert f"deploy/systemd/quantrac.env.example {environment}\n" in readme
    assert env_file("systemd/quantrac.env.example")["QUANTRAC_DATA_DIR"] == f"/var/lib/{user}"
    assert _values(_COMMON, "StateDirectory") == [user]
    for name in _SERVICES[1:]:
        assert f" quantrac-{name}" in readme


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on PATH")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "units"
    shutil.copytree(_UNITS, folder)
    for unit in folder.glob("*.service"):  # systemd looks whether the program is there
        unit.write_text(unit.read_text(encoding="utf-8").replace("/opt/quantrac/bin/quantrac", "/bin/true"))
    units = sorted(str(p) for p in folder.iterdir() if p.suffix in (".service", ".target"))
    environ = os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:", "SYSTEMD_LOG_LEVEL": "warning"}
    done = subprocess.run(["systemd-analyze", "verify", *units], env=environ, capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if str(folder) in line or "quantrac" in line]
    assert (done.returncode, ours) == (0, [])
