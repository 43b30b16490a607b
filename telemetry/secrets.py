"""What must be stored so that only we can read it back: webhook secrets, encrypted at rest.

The key is QUANTRAC_SECRET_KEY or the file ``secret.key`` of the data folder, made at first use.
Several keys separated by commas are a rotation: the first encrypts, all of them decrypt.
"""

from __future__ import annotations

import base64
import os
import secrets
import stat
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import SettingsError, StoreError
from .files import sync_folder
from .settings import CommonSettings

_SETTING = "QUANTRAC_SECRET_KEY"
KEY_FILE = "secret.key"
_PURPOSE = b"quantrac: secrets at rest, version 1"


class SecretBox:
    """Encrypts and decrypts with Fernet (AES-128-CBC and HMAC-SHA256) under keys derived by HKDF-SHA256."""

    def __init__(self, key: str) -> None:
        """`key`: any text, or several separated by commas, newest first.

        Raises:
            SettingsError: `key` holds no key.
        """
        parts = [part.strip() for part in key.split(",") if part.strip()]
        if not parts:
            raise SettingsError(
                _SETTING, "is empty", "Write at least 32 random characters, or unset it to have a key made."
            )
        self._fernet = MultiFernet([_derived(part) for part in parts])

    def encrypt(self, plain: bytes) -> bytes:
        """`plain` under the first key; the result is ASCII and about a third longer."""
        return self._fernet.encrypt(plain)

    def decrypt(self, token: bytes) -> bytes:
        """What `encrypt` was given, whichever of the keys it was under.

        Raises:
            StoreError: none of the keys opens it.
        """
        try:
            return self._fernet.decrypt(token)
        except InvalidToken:
            raise StoreError(
                f"A stored secret does not open with {_SETTING}. Set the key it was stored under "
                "(after a rotation: both, the new one first, separated by a comma)."
            ) from None


def load_secret_key(settings: CommonSettings) -> str:
    """The setting, else the text of ``<data_dir>/secret.key``, which is made (mode 0600) when there is none.

    Any number of processes may call this at once; they get the same key.

    Raises:
        SettingsError: the file can be read by others, is empty, or cannot be read or made.
    """
    if settings.secret_key.strip():
        return settings.secret_key
    path = settings.data_dir / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        return _read(path)
    except OSError as error:
        raise SettingsError(
            _SETTING,
            f"is unset and {path} cannot be used ({error.strerror})",
            "Set it, or give this user the right to read and write that file.",
        ) from None


def _derived(part: str) -> Fernet:
    raw = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(part.encode())
    return Fernet(base64.urlsafe_b64encode(raw))


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link appears with its content or not at all, and never replaces another process's key.
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    sync_folder(path.parent)


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise SettingsError(_SETTING, f"{path} can be read by others", f"Run: chmod 600 {path}")
        try:
            text = file.read().strip()
        except UnicodeDecodeError:
            text = ""
    if not text:
        raise SettingsError(
            _SETTING, f"{path} holds no key", "Restore the file from where you keep it, or set the variable."
        )
    return text
