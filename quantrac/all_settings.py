"""The settings of all rooms together, for those who tell of them; a command reads its own."""

from __future__ import annotations

from alerting.delivery.settings import DeliverySettings
from alerting.settings import AlertSettings
from api.settings import ApiSettings
from ingest.adapters import AdapterSettings
from ingest.settings import IngestSettings
from ingest.sources.tts_settings import TtsStorageSettings
from quantrac.context import EmbeddedSettings
from telemetry.settings import CommonSettings, StoreSettings

ALL_SETTINGS = (
    CommonSettings,
    StoreSettings,
    IngestSettings,
    AdapterSettings,
    TtsStorageSettings,
    AlertSettings,
    DeliverySettings,
    ApiSettings,
    EmbeddedSettings,
)
