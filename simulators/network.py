"""What a scenario says of its network: gateways, and what is lost."""

from __future__ import annotations

from pydantic import Field

from .yamlfile import Eui, Model


class GatewaySpec(Model):
    """A gateway of a scenario; `gain_db` is what antenna and mast gain over the measured path loss."""

    id: Eui
    name: str = Field(min_length=1)
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    altitude_m: float = 0.0
    gnss: bool = True
    gain_db: float = 12.0


class NetworkSpec(Model):
    """Shares of frames that are lost on the air besides weak ones, and of messages delivered twice."""

    loss: float = Field(default=0.01, ge=0, lt=1)
    duplicates: float = Field(default=0.02, ge=0, le=1)
