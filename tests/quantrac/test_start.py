"""The start of a command: only its own module is imported, and each is found under its name."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import psycopg
import pytest
import typer

from quantrac import cli
from quantrac.main import MODULES, _of_the_database, application
from tests.program import run

_PLACES = [(module, command) for module, commands in MODULES.items() for command in commands]


def _commands(app: typer.Typer) -> set[str]:
    group: Any = typer.main.get_command(app)
    return set(group.commands)


def test_the_table_names_every_command_once() -> None:
    named = [command for _, command in _PLACES]
    assert sorted(named) == sorted(_commands(cli.app))


@pytest.mark.parametrize(("module", "command"), _PLACES)
def test_a_command_is_in_the_module_the_table_says(module: str, command: str) -> None:
    assert _commands(application(command)) == set(MODULES[module])


@pytest.mark.parametrize("module", MODULES)
def test_each_module_starts_by_itself(module: str) -> None:
    """From the outside: nothing it needs may have been imported by another command's module."""
    done = run(MODULES[module][0], "--help")
    assert done.returncode == 0, done.stderr
    assert f"quantrac {MODULES[module][0]}" in done.stdout


def test_what_most_commands_do_without_is_not_imported() -> None:
    code = "import sys; from quantrac.main import application; application('status'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "alembic",
        "fastapi",
        "numpy",
        "paho",
        "pint",
        "pyarrow",
        "rich.console",
        "sqlalchemy",
        "structlog",
    }
    assert not heavy & set(done.stdout.split())


def test_an_unknown_command_is_told_with_its_neighbours() -> None:
    done = run("statu")
    assert done.returncode == 2
    assert "status" in done.stderr


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"), "somebody holds what"),
        (psycopg.errors.QueryCanceled("canceling statement"), "took too long"),
        (psycopg.errors.DiskFull("could not extend file"), "disk is full"),
        (psycopg.OperationalError("connection refused"), "does not answer"),
    ],
)
def test_what_the_database_objects_to_is_told_by_its_kind(error: psycopg.Error, told: str) -> None:
    message = _of_the_database(error)
    assert message is not None
    assert told in message
    assert str(error) in message
