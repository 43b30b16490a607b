"""Small private files: written whole or not at all, readable by their owner only."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from quantrac.embedded.errors import EmbeddedServerError
from telemetry.files import sync_folder


def private_folder(path: Path) -> Path:
    """Make the folder (0700) with its parents when it is missing; returns its real path."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise EmbeddedServerError(
            f"Cannot use the folder {path}: {error.strerror}",
            cure="Make it writable for the user who runs Quantrac, "
            "or choose another folder with --data / QUANTRAC_DATA_DIR.",
        ) from error
    return path.resolve()


def write_private(path: Path, text: str) -> None:
    """Replace the file by `text`, durably, mode 0600; it belongs to whom its folder belongs."""
    draft = path.with_name(f"{path.name}.new")
    try:
        with open(
            draft, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)
        ) as file:
            if os.geteuid() == 0:
                folder = path.parent.stat()
                os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise EmbeddedServerError(
            f"Cannot write {path}: {error.strerror}",
            cure="Free some space on that disk, or make the folder writable for the user who runs Quantrac.",
        ) from error


def read_passwords(path: Path, users: Iterable[str]) -> dict[str, str] | None:
    """The passwords kept in `path`; None when the file is missing, damaged or lacks one of `users`."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(kept, dict) or not all(isinstance(kept.get(user), str) for user in users):
        return None
    return kept


def new_passwords(users: Iterable[str]) -> dict[str, str]:
    """A random password for each user, of letters and digits only: safe in URLs, SQL and settings."""
    return {user: secrets.token_hex(20) for user in users}
