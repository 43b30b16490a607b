"""Settings of ingest that cannot mean anything are refused where they are read."""

from __future__ import annotations

import pytest

from ingest.settings import IngestSettings
from telemetry.errors import SettingsError
from telemetry.settings import load


@pytest.mark.parametrize("topics", ["a/#/b", "a/b+", "#a", "$share/g/a/#", ","])
def test_a_topic_filter_that_is_none(topics: str) -> None:
    with pytest.raises(SettingsError, match="QUANTRAC_MQTT_TOPICS"):
        load(IngestSettings, environ={"QUANTRAC_MQTT_TOPICS": topics})


def test_topic_filters() -> None:
    settings = load(IngestSettings, environ={"QUANTRAC_MQTT_TOPICS": "#, +/a/+, application/#"})
    assert settings.mqtt_topics == ("#", "+/a/+", "application/#")
