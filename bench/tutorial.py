"""The script that tutorials show: paho-mqtt, `json.loads`, one INSERT and a COMMIT for each message.

It takes the fields ChirpStack decoded, knows no devices, units, duplicates or bad messages, and the library
acknowledges by itself. Run as `python -m bench.tutorial MQTT_URL DATABASE_URL CLIENT_ID`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import paho.mqtt.client as mqtt
import psycopg
from paho.mqtt.enums import CallbackAPIVersion

from telemetry.mqtt import parse_mqtt_url

INSERT = "INSERT INTO measurement (time, device, metric, value) VALUES " + ", ".join(["(%s, %s, %s, %s)"] * 6)


def main(mqtt_url: str, database_url: str, client_id: str) -> None:
    database = psycopg.connect(database_url)

    def on_connect(client: mqtt.Client, *_: Any) -> None:
        client.subscribe("application/+/device/+/event/up", qos=1)

    def on_message(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        body = json.loads(message.payload)
        time, device, fields = body["time"], body["deviceInfo"]["devEui"], body["object"]
        values = (
            ("air_temperature", fields["temperatureSensor"]["0"]),
            ("air_humidity", fields["humiditySensor"]["0"]),
            ("air_pressure", fields["barometer"]["0"]),
            ("illuminance", fields["illuminanceSensor"]["0"]),
            ("soil_temperature", fields["temperatureSensor"]["1"]),
            ("soil_moisture", fields["humiditySensor"]["1"]),
        )
        row = [cell for metric, value in values for cell in (time, device, metric, value)]
        with database.cursor() as cursor:
            cursor.execute(INSERT, row)
        database.commit()

    address = parse_mqtt_url(mqtt_url)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
    client.username_pw_set(address.username, address.password)
    client.on_connect = on_connect
    client.on_message = on_message
    client.connect(address.host, address.port)
    client.loop_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
