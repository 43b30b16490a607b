"""Settings: environment variables ``QUANTRAC_…`` over an optional ``quantrac.toml``.

Each room declares its own `Settings` class; a field `mqtt_url` is the variable ``QUANTRAC_MQTT_URL`` and the
key ``mqtt_url`` of the file. An empty variable counts as unset.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from .errors import SettingsError

PREFIX = "QUANTRAC_"
FILE_VARIABLE = "QUANTRAC_CONFIG"
DEFAULT_FILE = Path("quantrac.toml")
LEAST_READINGS = 4
"""Days that readings are kept at least: rollups are made of them, again when some come late."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Days = Annotated[int, Field(ge=0, le=36_500)]
"""Up to a hundred years; what 0 means, each setting says."""
CommaList = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""A list of words; in the environment separated by commas."""


class Settings(BaseModel):
    """Base of every room's settings. Fields carry a description: it becomes the default file's comment."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "quantrac"


class CommonSettings(Settings):
    """What every command needs."""

    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Folder of the embedded database and broker, of secrets and of run-time state.",
    )
    secret_key: str = Field(
        default="",
        description="Key that encrypts webhook secrets in the database; made in the data folder when unset.",
    )
    log_level: str = Field(
        default="info",
        pattern="^(debug|info|warning|error)$",
        description="debug, info, warning or error.",
    )
    metrics_listen: str = Field(
        default="",
        pattern=r"^(|[^:\s]+:\d{1,5})$",
        description="host:port where ingest, alert and deliver show Prometheus metrics; empty: nowhere.",
    )
    log_format: str = Field(
        default="auto",
        pattern="^(auto|json|console)$",
        description="json, console, or auto: console on a terminal, json elsewhere.",
    )


class StoreSettings(Settings):
    """Where the time series live."""

    database_url: str = Field(
        default="",
        description="PostgreSQL or TimescaleDB, postgresql://user:password@host:5432/database; empty: the "
        "embedded server of `quantrac up`.",
    )
    database_pool: int = Field(
        default=8,
        ge=4,
        le=200,
        description="Most connections one process opens: some of its work takes two at once.",
    )
    database_timeout: float = Field(
        default=30.0, gt=0, description="Seconds after which a statement of the API is given up."
    )
    database_writer_timeout: float = Field(
        default=60.0, ge=0, description="The same for what stores messages; it tries again. 0: never."
    )
    database_worker_timeout: float = Field(
        default=600.0, ge=0, description="The same for what works beside them, and for alerting. 0: never."
    )
    database_lock_timeout: float = Field(
        default=20.0,
        ge=0,
        description="Seconds each of them waits for a lock. 0: for ever.",
    )
    database_migrate_lock_timeout: float = Field(
        default=60.0,
        ge=0,
        description="Seconds `quantrac migrate` waits for a table that others use: whoever comes later waits "
        "behind it. 0: for ever.",
    )
    database_idle_timeout: float = Field(
        default=300.0,
        ge=0,
        description="Seconds after which the server ends a transaction whose program hangs. 0: never.",
    )
    database_replica_url: str = Field(
        default="",
        description="A streaming replica of the database: the API reads series and exports there, and from "
        "the primary while it is away. Empty: none.",
    )
    database_replica_lag: float = Field(
        default=30.0,
        gt=0,
        description="Seconds a replica may be behind; the API asks the primary while it is further.",
    )

    retain_messages: Days = Field(
        default=90,
        description="Days that network servers' messages are kept as they came, for forensics. 0: for ever.",
    )
    retain_frames: Days = Field(
        default=0,
        description="Days that frames and events are kept, at least as long as readings; older messages "
        "become rejects. 0: for ever, as law and evidence may ask.",
    )
    retain_readings: Days = Field(
        default=0,
        description="Days that readings are kept, 4 at least. 0: for ever, as above.",
    )
    retain_rollups: Days = Field(
        default=0,
        description="Days that hours and days are kept, at least as long as readings. Without TimescaleDB "
        "Community they are made of readings and go with them. 0: for ever.",
    )
    retain_link: Days = Field(default=730, description="Days of the radio link's history. 0: for ever.")
    retain_alerts: Days = Field(
        default=0,
        description="Days after their end that alerts and their deliveries are kept. 0: for ever.",
    )
    retain_audit: Days = Field(default=1095, description="Days it is kept who changed what. 0: for ever.")

    columnstore_after: Days = Field(
        default=14,
        description="Days after which readings move to the columnstore of TimescaleDB Community, where they "
        "take a tenth of the space; other editions have none. 0: never.",
    )

    @field_validator("retain_frames")
    @classmethod
    def _hold_readings(cls, value: int) -> int:
        if 0 < value < LEAST_READINGS:
            raise ValueError(
                f"must be 0 or at least {LEAST_READINGS}: so long live readings, which rollups are made of"
            )
        return value

    @field_validator("retain_readings")
    @classmethod
    def _frames_outlive(cls, value: int, info: ValidationInfo) -> int:
        if 0 < value < LEAST_READINGS:
            raise ValueError(f"must be 0 or at least {LEAST_READINGS}: rollups are made of the days before")
        frames = info.data.get("retain_frames", 0)
        if frames and not 0 < value <= frames:
            raise ValueError(
                f"must be within {LEAST_READINGS}…{frames}: QUANTRAC_RETAIN_FRAMES is {frames}, and a frame "
                "lives at least as long as its readings"
            )
        return value

    @field_validator("retain_rollups")
    @classmethod
    def _rollups_outlive(cls, value: int, info: ValidationInfo) -> int:
        readings = info.data.get("retain_readings", 0)
        if value and not 0 < readings <= value:
            least = f"at least {readings}" if readings else "0 as well"
            raise ValueError(
                f"must be {least}: QUANTRAC_RETAIN_READINGS is {readings}, and rollups live at least as long "
                "as readings"
            )
        return value

    @field_validator("database_url", "database_replica_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            parts = conninfo_to_dict(value)
        except psycopg.ProgrammingError as error:
            raise ValueError(f"is no PostgreSQL address ({' '.join(str(error).split())})") from None
        for port in filter(None, str(parts.get("port", "")).split(",")):  # libpq looks at it when it connects
            if not (port.isdecimal() and 1 <= int(port) <= 65535):
                raise ValueError(f"is no PostgreSQL address (port {port[:20]!r} is not within 1…65535)")
        return value


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(
    cls: type[SettingsT],
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> SettingsT:
    """Read one room's settings: `overrides` (from the command line) over environment over file over defaults.

    Raises:
        SettingsError: a value is of the wrong kind or the file cannot be read; names variable and cure.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {k: v for k, v in _read_file(environ).items() if k in cls.model_fields}
    for name in cls.model_fields:
        text = environ.get(PREFIX + name.upper(), "")
        if text:
            values[name] = text
    values.update({k: v for k, v in (overrides or {}).items() if v is not None})
    try:
        return cls(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "?"
        field = cls.model_fields.get(name)
        hint = field.description if field and field.description else "See docs/reference/settings.md."
        shown = (
            "" if "password" in name or "secret" in name or "url" in name else f" (got {first['input']!r})"
        )
        problem = first["msg"].removeprefix("Value error, ")
        raise SettingsError(PREFIX + name.upper(), f"{problem}{shown}", hint) from None


def unknown_names(classes: Iterable[type[Settings]], environ: Mapping[str, str] | None = None) -> list[str]:
    """One sentence for each variable or file key that no room knows, with the nearest known name."""
    environ = os.environ if environ is None else environ
    known = {name for cls in classes for name in cls.model_fields}
    ours = {FILE_VARIABLE, "QUANTRAC_TEST_DATABASE_URL"}
    found = [
        k for k in environ if k.startswith(PREFIX) and k not in ours and k[len(PREFIX) :].lower() not in known
    ]
    found += [f"{PREFIX}{k.upper()}" for k in _read_file(environ) if k not in known]
    sentences = []
    for variable in sorted(set(found)):
        near = difflib.get_close_matches(variable[len(PREFIX) :].lower(), known, n=1)
        hint = f" (did you mean {PREFIX}{near[0].upper()}?)" if near else ""
        sentences.append(f"{variable} is no setting of Quantrac{hint}")
    return sentences


def _read_file(environ: Mapping[str, str]) -> dict[str, Any]:
    named = environ.get(FILE_VARIABLE)
    path = Path(named) if named else DEFAULT_FILE
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise SettingsError(
                FILE_VARIABLE, f"no file {path}", "Name an existing file or unset it."
            ) from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            FILE_VARIABLE, f"{path}: {error}", "Mend the file; it must be TOML in UTF-8."
        ) from None
