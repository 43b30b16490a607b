"""What alerting can be told."""

from __future__ import annotations

from pydantic import Field

from telemetry.settings import Settings


class AlertSettings(Settings):
    """How the system itself is watched."""

    member_silent: int = Field(
        default=60,
        ge=15,
        le=86_400,
        description="Seconds without a sign of life, or without its broker, after which an ingest process "
        "is a fault that subscribers are told of.",
    )
