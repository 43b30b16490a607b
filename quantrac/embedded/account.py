"""The account PostgreSQL runs under.

PostgreSQL refuses to run as root. When we are root it runs, in this order, as what works when tried:

1. in a user namespace of its own, where our own files seem to belong to "nobody": works below 0700 folders;
2. as the user the data belongs to, or "nobody", who is given the data then (containers without namespaces).

Who owns the data remembers which of the two made it.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantrac.embedded.errors import EmbeddedServerError

_NAMESPACE = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--")
# Goes where the server will work, writes there and runs the server's program, as the account would.
_TRIAL = 'cd "$1" && test -w . && exec "$2" --version'
_CURE = (
    "Run Quantrac as an ordinary user; or allow user namespaces to root; or choose a data folder "
    "(--data / QUANTRAC_DATA_DIR) whose parents every user may pass, and install Quantrac in such a place."
)


@dataclass(frozen=True, slots=True)
class Account:
    """How to start a program as this account: a command in front of it, or another user and group."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def command(self, *argv: str | Path) -> list[str]:
        return [*self.prefix, *map(str, argv)]

    @property
    def popen(self) -> dict[str, Any]:
        """Further arguments for `subprocess`."""
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}


def choose_account(folder: Path, program: Path) -> Account:
    """The account that can run `program` in `folder`, which may be handed to that account.

    Raises `EmbeddedServerError` with what was tried and why it failed.
    """
    owner = folder.stat()
    if os.geteuid() not in (0, owner.st_uid):
        raise EmbeddedServerError(
            f"{folder} belongs to user {owner.st_uid}",
            cure="Run Quantrac as that user, or choose another folder with --data / QUANTRAC_DATA_DIR.",
        )
    if os.geteuid() != 0:
        account = Account()
    elif owner.st_uid == 0:
        account = Account(_NAMESPACE)
    else:
        account = Account(uid=owner.st_uid, gid=owner.st_gid)
        _let_through(folder)
    refusals = [_refusal(account, folder, program)]
    if refusals[-1] and account.prefix:
        nobody = pwd.getpwnam("nobody")
        account = Account(uid=nobody.pw_uid, gid=nobody.pw_gid)
        hand_over(folder, nobody.pw_uid, nobody.pw_gid)
        _let_through(folder)
        refusals.append(_refusal(account, folder, program))
        if refusals[-1]:
            hand_over(folder, 0, 0)
    if refusals[-1]:
        raise EmbeddedServerError("PostgreSQL cannot run here: " + "; ".join(refusals), cure=_CURE)
    return account


def hand_over(folder: Path, uid: int, gid: int) -> None:
    """Give the folder and everything in it to that user."""
    os.chown(folder, uid, gid)
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(root, name), uid, gid, follow_symlinks=False)


def _let_through(folder: Path) -> None:
    """The data folder stays unreadable, but its owner's PostgreSQL may pass to the folder inside."""
    folder.parent.chmod(folder.parent.stat().st_mode & 0o7777 | 0o011)


def _refusal(account: Account, folder: Path, program: Path) -> str:
    """Why the account cannot run the program in the folder; empty when it can."""
    whom = "in a user namespace" if account.prefix else f"as user {account.uid or os.geteuid()}"
    command = account.command("sh", "-c", _TRIAL, "sh", folder, program)
    try:
        trial = subprocess.run(
            command, cwd="/", capture_output=True, text=True, errors="replace", **account.popen
        )
    except OSError as error:
        return f"{whom}: {error}"
    if trial.returncode == 0:
        return ""
    return f"{whom}: {trial.stderr.strip() or f'{folder} is not writable'}"
