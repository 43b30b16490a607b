"""What ingest can be told."""

from __future__ import annotations

import socket

from pydantic import Field, field_validator

from telemetry.mqtt import parse_mqtt_url
from telemetry.settings import CommaList, Settings


def _default_client_id() -> str:
    return f"quantrac-ingest-{socket.gethostname()}"


class IngestSettings(Settings):
    """The broker, and how its messages are gathered into transactions."""

    mqtt_url: str = Field(
        default="",
        description="The broker, mqtt://user:password@host:1883 or mqtts://…; empty: the embedded broker.",
    )
    mqtt_topics: CommaList = Field(
        default=("application/+/device/+/event/+", "v3/+/devices/+/#"),
        description="Topic filters to subscribe to, separated by commas.",
    )
    mqtt_share: str = Field(
        default="",
        pattern="^[^/+#]*$",
        description="Shared-subscription group; all ingest processes of one group divide the messages.",
    )
    mqtt_client_id: str = Field(
        default_factory=_default_client_id,
        min_length=1,
        max_length=200,
        description="MQTT client id, stable per instance: the broker keeps its messages while it is away.",
    )
    mqtt_version: str = Field(
        default="auto",
        pattern="^(auto|5|3.1.1)$",
        description="5, 3.1.1, or auto: 5 where the broker speaks it.",
    )
    mqtt_receive_maximum: int = Field(
        default=5000, ge=20, le=65535, description="Most unacknowledged messages under way (MQTT 5)."
    )
    mqtt_session_expiry: int = Field(
        default=7 * 86400,
        ge=60,
        description="Seconds the broker keeps our session while we are away (MQTT 5).",
    )
    max_message: int = Field(
        default=262_144, ge=1024, description="Bytes of a message above which it is rejected, its bytes kept."
    )
    batch_size: int = Field(default=2000, ge=1, le=50_000, description="Most messages in one transaction.")
    keep_messages: bool = Field(
        default=True, description="Keep each uplink's message as the network server sent it, for forensics."
    )
    reject_days: int = Field(
        default=90,
        ge=0,
        le=36_500,
        description="Days a reject is kept, 0 for ever; one that was retried or dismissed goes after 7.",
    )

    codecs_dir: str = Field(
        default="", description="A folder of vendors' JavaScript codecs, ID.js or ID/codec.js; read at start."
    )
    codec_workers: int = Field(
        default=1, ge=1, le=64, description="Processes that run JavaScript codecs, for each ingest process."
    )

    @field_validator("mqtt_topics")
    @classmethod
    def _are_filters(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("names no topic, so nothing would be received")
        for topic in value:
            levels = topic.split("/")
            if topic.startswith("$share/"):
                raise ValueError(f"{topic!r}: name the group in QUANTRAC_MQTT_SHARE instead")
            if "#" in levels[:-1] or any(len(level) > 1 and set(level) & {"+", "#"} for level in levels):
                raise ValueError(f"{topic!r} is no topic filter: + stands for a whole level, # for the last")
        return value

    @field_validator("mqtt_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value:
            parse_mqtt_url(value)
        return value
