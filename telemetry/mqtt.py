"""The address of a broker, as everybody who connects to one reads it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from .errors import SettingsError


class MqttAddress(NamedTuple):
    """Where a broker listens and who we are to it."""

    host: str
    port: int
    tls: bool
    username: str | None
    password: str | None


def parse_mqtt_url(url: str, setting: str = "QUANTRAC_MQTT_URL") -> MqttAddress:
    """``mqtt://user:pass@host:1883`` or ``mqtts://…`` (8883); user and password are percent-decoded.

    Raises:
        SettingsError: not such an address.
    """
    cure = "Write mqtt://user:password@host:1883, or mqtts:// for TLS."
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError(setting, f"is no broker address ({error})", cure) from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        raise SettingsError(setting, "is no broker address", cure)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise SettingsError(setting, "has something after the host and port", cure)
    tls = parts.scheme == "mqtts"
    return MqttAddress(
        parts.hostname,
        port or (8883 if tls else 1883),
        tls,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
    )
