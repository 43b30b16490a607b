"""PostgreSQL's own programs for dumping and restoring."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from psycopg.pq import Conninfo

from quantrac.embedded import cluster
from quantrac.embedded.errors import EmbeddedServerError
from telemetry.errors import QuantracError

_DEBIAN = Path("/usr/lib/postgresql")
_LINES = 8
_TRANSACTION_TIMEOUT = 17


@dataclass(frozen=True, slots=True)
class Program:
    """`pg_dump` or `pg_restore` of one version of PostgreSQL."""

    path: Path
    major: int
    version: str


def find(name: str, least: int) -> Program:
    """The program of the oldest PostgreSQL that is not older than `least`, a major version.

    An older one cannot read the server. A newer one than needed writes settings that an older server refuses.

    Raises:
        QuantracError: there is none.
    """
    found = _installed(name)
    fit = [program for program in found if program.major >= least]
    if not fit:
        have = ", ".join(program.version for program in found) or "none"
        raise QuantracError(
            f"{name} of PostgreSQL {least} or newer is needed, found: {have}. "
            f"Install the package postgresql-client-{least}."
        )
    return min(fit, key=lambda program: program.major)


def too_new(program: Program, server: int) -> bool:
    """Whether a restore by it begins with a setting unknown there: transaction_timeout came with 17."""
    return program.major >= _TRANSACTION_TIMEOUT > server


@cache
def _installed(name: str) -> list[Program]:
    folders = sorted(_DEBIAN.glob("*/bin"))
    with suppress(EmbeddedServerError):
        folders.insert(0, cluster.programs())
    if on_path := shutil.which(name):
        folders.append(Path(on_path).parent)
    programs = []
    for folder in folders:
        try:
            said = subprocess.run([folder / name, "--version"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        if told := re.search(r"\) ((\d+)\S*)", said.stdout):
            programs.append(Program(folder / name, int(told[2]), told[1]))
    return programs


def environment(url: str, application: str) -> dict[str, str]:
    """By which a program reaches the database: not as arguments, which every user of the machine can read."""
    named = {
        option.envvar.decode(): option.val.decode()
        for option in Conninfo.parse(url.encode())
        if option.envvar and option.val
    }
    return {**os.environ, **named, "PGAPPNAME": application, "PGOPTIONS": "-c timezone=UTC", "LC_ALL": "C"}


@contextmanager
def running(
    program: Program, *arguments: str, env: dict[str, str], feed: bool
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """The program with its standard input (`feed`) or output as a pipe; killed when the block is left early.

    Raises:
        QuantracError: on leaving the block, it has failed; the last lines of what it said.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [program.path, *arguments],
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if feed else subprocess.PIPE,
            stderr=said,
            env=env,
            # Ctrl-C is for us to handle.
            start_new_session=True,
        )
        pipe = process.stdin if feed else process.stdout
        assert pipe is not None
        try:
            try:
                yield process, pipe
                if feed:
                    pipe.close()
            except BrokenPipeError:
                pass  # it has ended by itself and says why
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):
                pipe.close()
        if status != 0:
            said.seek(0)
            lines = [
                line for line in said.read().decode(errors="replace").splitlines() if "warning: " not in line
            ]
            raise ProgramFailed(program, status, lines)


class ProgramFailed(QuantracError):
    """pg_dump or pg_restore ended with an error."""

    def __init__(self, program: Program, status: int, lines: list[str]) -> None:
        self.lines = lines
        told = "\n".join(f"  {line}" for line in lines[-_LINES:]) or f"  it ended with status {status}"
        super().__init__(f"{program.path.name} {program.version} failed:\n{told}")
