"""Whether an MQTT broker answers."""

from __future__ import annotations

import time

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

_SECONDS = 3.0


def answers(host: str, port: int, user: str, password: str) -> bool:
    """Whether a broker there lets this user in."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="quantrac-probe", protocol=paho.MQTTv311)
    client.username_pw_set(user, password)
    said: list[bool] = []
    client.on_connect = lambda _client, _data, _flags, reason, _properties: said.append(not reason.is_failure)
    try:
        client.connect(host, port, keepalive=10)
        deadline = time.monotonic() + _SECONDS
        while not said and time.monotonic() < deadline:
            if client.loop(0.1) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        client.disconnect()
    except OSError:
        return False
    return said == [True]
