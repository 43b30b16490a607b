"""Whose storage at The Things Stack is read, and with which key."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator

from telemetry.errors import SettingsError
from telemetry.mqtt import parse_mqtt_url
from telemetry.settings import CommaList, Settings


@dataclass(frozen=True, slots=True)
class Application:
    """One application of a server. `url` is where its uplinks are, `source` the name of our progress."""

    id: str
    tenant: str
    url: str
    source: str
    secret: str = field(repr=False)


class TtsStorageSettings(Settings):
    """The Things Stack's Storage Integration: uplinks that neither MQTT nor a webhook brought."""

    tts_storage_url: str = Field(
        default="",
        description="The Things Stack whose stored uplinks fill gaps, https://eu1.cloud.thethings.network; "
        "empty: none.",
    )
    tts_storage_applications: CommaList = Field(
        default=(),
        description="Applications to read there; empty: that of QUANTRAC_MQTT_URL, if it is the same server.",
    )
    tts_storage_secret: CommaList = Field(
        default=(),
        repr=False,
        description="API key that may read application traffic: one for all applications, or one for each in "
        "their order; empty: the password of QUANTRAC_MQTT_URL, if it is the same server.",
    )
    tts_storage_tenant: str = Field(
        default="",
        pattern=r"^[\w.-]*$",
        description="Tenant of the applications, ttn on the Sandbox; empty: that of QUANTRAC_MQTT_URL.",
    )
    tts_storage_minutes: float = Field(
        default=60,
        ge=5,
        le=1440,
        description="Minutes between two looks, besides those after every start and every gap: its MQTT and "
        "webhooks promise no delivery.",
    )
    tts_storage_first_hours: float = Field(
        default=24, ge=0, le=720, description="Hours of history that the first look of all brings."
    )

    @field_validator("tts_storage_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query):
            raise ValueError("is no address of a server")
        return value.rstrip("/")

    def applications(self, mqtt_url: str = "") -> list[Application]:
        """What is to be read; nothing when no server is named.

        The broker's own credentials serve where it is the same server: the API key for MQTT reads traffic.

        Raises:
            SettingsError: an application or a key is missing.
        """
        if not self.tts_storage_url:
            return []
        host = urlsplit(self.tts_storage_url).hostname
        broker = parse_mqtt_url(mqtt_url) if mqtt_url else None
        same = broker if broker is not None and broker.host == host else None
        name, _, tenant = (same.username or "" if same else "").partition("@")
        ids = self.tts_storage_applications or ((name,) if name else ())
        secrets = self.tts_storage_secret or ((same.password,) if same and same.password else ())
        if not ids:
            raise SettingsError(
                "QUANTRAC_TTS_STORAGE_APPLICATIONS", "names no application", "Write its id, such as my-app."
            )
        if len(secrets) not in (1, len(ids)):
            raise SettingsError(
                "QUANTRAC_TTS_STORAGE_SECRET",
                f"holds {len(secrets)} keys for {len(ids)} applications",
                "Give one API key for all of them, or one for each in their order.",
            )
        keys = secrets * len(ids) if len(secrets) == 1 else secrets
        return [
            Application(
                id=id_,
                tenant=self.tts_storage_tenant or tenant,
                url=f"{self.tts_storage_url}/api/v3/as/applications/{quote(id_, safe='')}"
                "/packages/storage/uplink_message",
                source=f"tts:{urlsplit(self.tts_storage_url).netloc}/{id_}",
                secret=key,
            )
            for id_, key in zip(ids, keys, strict=True)
        ]
