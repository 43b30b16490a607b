"""Settings as the program sees them: the environment's, else what `quantrac up` left in its data folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ingest.settings import IngestSettings
from telemetry.errors import UsageError
from telemetry.settings import CommonSettings, Settings, StoreSettings, load

if TYPE_CHECKING:
    from telemetry.secrets import SecretBox


class EmbeddedSettings(Settings):
    """The servers that `quantrac up` brings along."""

    broker_host: str = Field(
        default="127.0.0.1",
        description="Address the embedded broker listens on; 0.0.0.0 lets a network server elsewhere in.",
    )


_RUNTIME = "runtime.json"


@dataclass(frozen=True, slots=True)
class Runtime:
    """Addresses of the embedded servers, as `quantrac up` last started them; secret, so 0600."""

    database_url: str
    mqtt_urls: dict[str, str]
    mqtt_version: str
    api_url: str

    def write(self, data_dir: Path) -> None:
        from quantrac.embedded.files import write_private

        content = {name: getattr(self, name) for name in self.__slots__}
        write_private(data_dir / _RUNTIME, json.dumps(content, indent=1))

    @classmethod
    def read(cls, data_dir: Path) -> Runtime | None:
        try:
            return cls(**json.loads((data_dir / _RUNTIME).read_text(encoding="utf-8")))
        except (FileNotFoundError, PermissionError):
            return None
        except (ValueError, TypeError):
            raise UsageError(f"{data_dir / _RUNTIME} is damaged; `quantrac up` writes it anew") from None


@dataclass(frozen=True, slots=True)
class Context:
    """What a command works with. `data` is the command line's --data."""

    data: Path | None = None

    @property
    def common(self) -> CommonSettings:
        return load(CommonSettings, overrides={"data_dir": self.data})

    def store(self) -> StoreSettings:
        """Raises `UsageError` when no database is named and none was started here."""
        settings = load(StoreSettings)
        if settings.database_url:
            return settings
        return settings.model_copy(update={"database_url": self._runtime().database_url})

    def ingest(self) -> IngestSettings:
        settings = load(IngestSettings)
        if settings.mqtt_url:
            return settings
        runtime = self._runtime()
        version = runtime.mqtt_version if settings.mqtt_version == "auto" else settings.mqtt_version
        return settings.model_copy(update={"mqtt_url": runtime.mqtt_urls["ingest"], "mqtt_version": version})

    def publisher_url(self) -> str:
        """The broker for those who publish: simulators."""
        return self.broker_url("simulator")

    def broker_url(self, role: str) -> str:
        """The broker; the embedded one with the account of one of `quantrac.embedded.roles.ROLES`."""
        return load(IngestSettings).mqtt_url or self._runtime().mqtt_urls[role]

    def box(self) -> SecretBox:
        from telemetry.secrets import SecretBox, load_secret_key

        return SecretBox(load_secret_key(self.common))

    def _runtime(self) -> Runtime:
        runtime = Runtime.read(self.common.data_dir)
        if runtime is None:
            raise UsageError(
                f"No database or broker is named, and none was started with the data folder "
                f"{self.common.data_dir}. Set QUANTRAC_DATABASE_URL and QUANTRAC_MQTT_URL, or start "
                f"`quantrac up` first (with the same QUANTRAC_DATA_DIR)."
            )
        return runtime
