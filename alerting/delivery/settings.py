"""What the delivery service can be told."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import BeforeValidator, Field

from telemetry.settings import Settings

Network = IPv4Network | IPv6Network


def _networks(value: object) -> object:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        return value
    return tuple(_network(part) if isinstance(part, str) else part for part in value)


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network; write it as 10.20.0.0/16 or fd00::/8") from None
    raise ValueError(f"{text!r} has bits set behind its prefix; write {meant}")


class DeliverySettings(Settings):
    """How webhooks are sent."""

    webhook_allow: Annotated[tuple[Network, ...], BeforeValidator(_networks)] = Field(
        default=(),
        description="Private networks (10.20.0.0/16, comma-separated) that webhooks may reach, also over "
        "plain http; none by default. Public addresses need no entry, but https.",
    )
    webhook_timeout: float = Field(
        default=15.0, ge=1, le=60, description="Seconds an endpoint has to answer, name look-up included."
    )
    webhook_concurrency: int = Field(
        default=32, ge=1, le=500, description="Most webhook requests one process has under way."
    )
    webhook_concurrency_each: int = Field(
        default=4, ge=1, le=50, description="Most webhook requests under way to one endpoint, per process."
    )
    webhook_ca_file: str = Field(
        default="",
        description="PEM file of further certificate authorities to trust, such as an organisation's own.",
    )
