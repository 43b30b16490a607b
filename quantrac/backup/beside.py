"""Files of an installation that the database does not know."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from ingest.adapters import AdapterSettings
from ingest.settings import IngestSettings
from quantrac.context import Context
from quantrac.embedded.files import private_folder
from telemetry.errors import QuantracError, StoreError
from telemetry.secrets import KEY_FILE, SecretBox
from telemetry.settings import DEFAULT_FILE, FILE_VARIABLE, load
from telemetry.store.pool import connect

# The embedded broker's port and passwords: the network servers have them in their settings.
_BROKER = ("broker/passwords.json", "broker/port")
_SECRET = re.compile(r"^\s*[\"']?secret_key[\"']?\s*=", re.M)
_MOST_BYTES = 64 * 1024 * 1024
RESTORED = "restored"
_NEW_SECRETS = "Without it give each of them a new secret: POST /api/v1/endpoints/{id}/rotate."


def collect(context: Context) -> dict[str, bytes]:
    """Their contents by relative path: the embedded broker's access, settings, codecs, adapters.

    Raises:
        QuantracError: a file cannot be read, or the folder of codecs is too large to be one.
    """
    data = context.common.data_dir
    found = {name: data / name for name in _BROKER}
    adapters, codecs = load(AdapterSettings).adapters_file, load(IngestSettings).codecs_dir
    if adapters:
        found[f"adapters/{Path(adapters).name}"] = Path(adapters)
    try:
        if codecs:
            found |= {f"codecs/{file.relative_to(codecs)}": file for file in _small(Path(codecs))}
        files = {name: file.read_bytes() for name, file in sorted(found.items()) if file.is_file()}
    except OSError as error:
        raise QuantracError(f"{error.filename}: cannot be read ({error.strerror})") from None
    if (settings := _settings()) is not None:
        files["quantrac.toml"] = settings
    return files


def _small(folder: Path) -> Iterator[Path]:
    """The files of the folder of codecs, links left out, as long as they can be codecs by their size."""
    size = 0
    for file in folder.rglob("*"):
        if file.is_symlink() or not file.is_file():
            continue
        size += file.stat().st_size
        if size > _MOST_BYTES:
            raise QuantracError(
                f"{folder} holds more than {_MOST_BYTES // 1024**2} MiB; a folder of codecs "
                "(QUANTRAC_CODECS_DIR) is small. Name a folder with nothing else in it."
            )
        yield file


def _settings() -> bytes | None:
    """The settings' file without the secret key; None where there is none or the key cannot be told."""
    file = Path(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)
    try:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        text = "".join(line for line in lines if not _SECRET.match(line))
        return None if "secret_key" in tomllib.loads(text) else text.encode()
    except (OSError, ValueError):
        return None


def put_back(files: Mapping[str, bytes], data_dir: Path, *, embedded: bool) -> list[str]:
    """Lay them down; returns a sentence for whoever has to see to the rest.

    In a data folder of `quantrac up` the broker gets its port and passwords back, unless it has some; all
    else goes to the folder `restored` in it, to be looked at by a person.

    Raises:
        QuantracError: a file cannot be written, or would lie outside the data folder.
    """
    rest: dict[str, bytes] = {}
    for name, content in files.items():
        place = data_dir / name
        if name in _BROKER and embedded and not place.exists():
            _write(place, content, data_dir)
        elif name not in _BROKER:
            rest[name] = content
    for name, content in rest.items():
        _write(data_dir / RESTORED / name, content, data_dir)
    if not rest:
        return []
    return [
        f"{data_dir / RESTORED} holds {len(rest)} files of the old machine (settings, codecs, adapters): "
        "put what you need in its place."
    ]


def _write(place: Path, content: bytes, within: Path) -> None:
    if not place.resolve().is_relative_to(within.resolve()):
        raise QuantracError(f"{place}: lies outside {within}; is a link in the way?")
    private_folder(place.parent)
    try:
        place.touch(mode=0o600)
        place.write_bytes(content)
    except OSError as error:
        raise QuantracError(f"{place}: cannot be written ({error.strerror})") from None


def unreadable_secrets(url: str, context: Context) -> list[str]:
    """A sentence where webhook secrets in the database do not open with the key that is at hand here."""
    with connect(url, application="quantrac restore", autocommit=True) as connection:
        secrets = [bytes(row[0]) for row in connection.execute("SELECT secret FROM endpoint").fetchall()]
    common = context.common
    file = common.data_dir / KEY_FILE
    if secrets and not common.secret_key.strip() and not file.exists():
        return [
            f"{len(secrets)} endpoints have secrets under the old machine's QUANTRAC_SECRET_KEY: set it, or "
            f"put its file at {file}, before the services start. {_NEW_SECRETS}"
        ]
    closed = [secret for secret in secrets if not _opens(context.box(), secret)]
    if not closed:
        return []
    return [
        f"{len(closed)} of {len(secrets)} endpoints have secrets that the present QUANTRAC_SECRET_KEY does "
        f"not open: add the old key behind it, after a comma. {_NEW_SECRETS}"
    ]


def _opens(box: SecretBox, secret: bytes) -> bool:
    try:
        box.decrypt(secret)
    except StoreError:
        return False
    return True
