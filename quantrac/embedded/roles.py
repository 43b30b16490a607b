"""Who may do what on the embedded broker; topics in MQTT's notation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """Topic filters a role may publish to and subscribe to."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


ROLES = {
    # Reads what network servers say and sends nothing but downlink commands: ChirpStack's
    # (https://www.chirpstack.io/docs/chirpstack/integrations/mqtt.html) and The Things Stack's
    # (https://www.thethingsindustries.com/docs/integrations/other-integrations/mqtt/).
    "ingest": Role(
        publish=(
            "application/+/device/+/command/+",
            "v3/+/devices/+/down/push",
            "v3/+/devices/+/down/replace",
        ),
        subscribe=("#", "$SYS/broker/version", "$SYS/broker/publish/messages/dropped"),
    ),
    # What a real network server is given: it publishes events and reads its downlink commands.
    "network": Role(
        publish=("application/#", "v3/#"),
        subscribe=("application/+/device/+/command/+", "v3/+/devices/+/down/+"),
    ),
    # A network server with its devices, which obey the commands.
    "simulator": Role(
        publish=("application/#", "v3/#"),
        subscribe=(
            "application/+/device/+/command/down",
            "v3/+/devices/+/down/push",
            "v3/+/devices/+/down/replace",
        ),
    ),
    "monitor": Role(subscribe=("#", "$SYS/#")),
    "admin": Role(publish=("#",), subscribe=("#", "$SYS/#")),
}
