"""The broker: what it promises, and what it is known to forget."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ingest.qos_watch import cure as qos_cure
from ingest.settings import IngestSettings
from quantrac.context import Context
from telemetry.errors import QuantracError
from telemetry.settings import load

from .finding import Finding
from .probe import DROPPED, Facts, ask

_MOSQUITTO = (
    "Mosquitto loses what it acknowledged since its last autosave when it is killed (30 minutes by default) "
    "and drops silently beyond 1,000 queued messages"
)
_OURS = "Compare its configuration with deploy/mosquitto/mosquitto.conf, which sets "
_MAX_QOS = "Let it grant QoS 1: Mosquitto max_qos 2, EMQX mqtt.max_qos_allowed = 2, HiveMQ max-qos 2."
_DIVIDE = (
    "Divide the work by QUANTRAC_MQTT_TOPICS instead, or take a broker that keeps shares: EMQX, HiveMQ, "
    "VerneMQ. See docs/how-to/scale.md."
)


def check_broker(context: Context) -> Iterator[Finding]:
    try:
        settings = context.ingest()
        facts = ask(
            settings.mqtt_url, settings.mqtt_topics, settings.mqtt_session_expiry, settings.mqtt_share
        )
    except OSError as error:
        yield Finding("fault", "broker", str(error) or "no answer", "Start it, or correct QUANTRAC_MQTT_URL.")
        return
    except QuantracError as error:
        cure = "Correct QUANTRAC_MQTT_URL: host, port, user, password; see docs/reference/settings.md."
        yield Finding("fault", "broker", str(error), cure)
        return
    yield Finding("ok", "broker", facts.version or "answers; it does not tell its version")
    yield from judge(facts, settings, embedded=not load(IngestSettings).mqtt_url)


def judge(facts: Facts, settings: IngestSettings, *, embedded: bool) -> Iterator[Finding]:
    """Findings from what the broker said. Pure."""
    yield _protocol(facts, settings)
    yield from _quality(facts)
    if settings.mqtt_share:
        yield _share(facts)
    yield from _session(facts, settings)
    yield _keeps(facts, embedded=embedded)
    if facts.version.startswith("mosquitto version 2.0.11"):
        text = "Mosquitto 2.0.11 exceeds it when it resumes a backlog; ingest tolerates that"
        yield Finding("ok", "broker receive maximum", text)
    yield from _dropped(facts, embedded=embedded)


def _protocol(facts: Facts, settings: IngestSettings) -> Finding:
    if facts.mqtt != "5":
        return Finding(
            "warning",
            "broker protocol",
            "speaks MQTT 3.1.1 only: it bounds the messages under way, often to 20, and so ingest to about "
            "15,000 messages a second",
            "Enough for a province; for more take a broker with MQTT 5, such as Mosquitto 2.",
        )
    if settings.mqtt_version == "3.1.1":
        text = "speaks MQTT 5, but QUANTRAC_MQTT_VERSION asks for 3.1.1, which bounds the messages under way"
        return Finding("warning", "broker protocol", text, "Remove QUANTRAC_MQTT_VERSION.")
    return Finding("ok", "broker protocol", "MQTT 5")


def _quality(facts: Facts) -> Iterator[Finding]:
    most = facts.properties.get("MaximumQoS", 2)
    if most < 1:
        yield Finding("fault", "broker QoS", f"QoS {most} at most: it promises no delivery", _MAX_QOS)
    if not facts.properties.get("WildcardSubscriptionAvailable", 1):
        cure = "Let it grant wildcards: EMQX mqtt.wildcard_subscription = true."
        yield Finding("fault", "broker subscriptions", "it grants no wildcards", cure)
    refused = [name for name, granted in facts.granted.items() if granted is None]
    weak = [name for name, granted in facts.granted.items() if granted == 0]
    if refused:
        cure = "The broker's ACL must let this user read QUANTRAC_MQTT_TOPICS."
        yield Finding("fault", "broker subscriptions", f"refused: {', '.join(refused)}", cure)
    if weak and most >= 1:
        text = f"granted at QoS 0 only: {', '.join(weak)}"
        if all(name.startswith("v3/") for name in facts.granted):  # The Things Stack itself
            yield Finding("warning", "broker subscriptions", text, qos_cure("v3"))
        else:
            yield Finding("fault", "broker subscriptions", text, _MAX_QOS)
    if not refused and not weak:
        yield Finding("ok", "broker subscriptions", f"granted at QoS 1: {', '.join(facts.granted)}")


def _share(facts: Facts) -> Finding:
    subject = "broker share"
    if facts.mqtt != "5":
        text = "QUANTRAC_MQTT_SHARE is set, and a broker without MQTT 5 (NATS among them) has no shares"
        return Finding("fault", subject, text, f"Unset QUANTRAC_MQTT_SHARE. {_DIVIDE}")
    if not facts.properties.get("SharedSubscriptionAvailable", 1) or facts.share is None:
        text = "QUANTRAC_MQTT_SHARE is set, and this broker grants no shared subscriptions to this user"
        cure = f"Allow them (EMQX: mqtt.shared_subscription = true; the ACL), or unset it. {_DIVIDE}"
        return Finding("fault", subject, text, cure)
    if facts.version.startswith("mosquitto"):
        text = (
            "Mosquitto does not save shared subscriptions: what is published after its restart, until the "
            "first process of the share is connected again, reaches nobody"
        )
        return Finding("warning", subject, text, _DIVIDE)
    return Finding("ok", subject, f"granted at QoS {facts.share}")


def _session(facts: Facts, settings: IngestSettings) -> Iterator[Finding]:
    kept = facts.properties.get("SessionExpiryInterval", settings.mqtt_session_expiry)
    if kept < settings.mqtt_session_expiry:
        text = (
            f"keeps sessions for {kept} s only; QUANTRAC_MQTT_SESSION_EXPIRY asks for "
            f"{settings.mqtt_session_expiry}"
        )
        yield Finding("warning", "broker session", text, "Raise its own limit, or expect gaps after longer.")


def _keeps(facts: Facts, *, embedded: bool) -> Finding:
    """How much of what it acknowledged it still has after it was killed."""
    subject = "broker queue"
    if embedded:
        text = "the embedded broker keeps what it acknowledged; a kill or power cut may take the last second"
        return Finding("ok", subject, text)
    if facts.version.startswith("mosquitto"):
        cure = f"{_OURS}persistence true, autosave_interval 5 and max_queued_messages 0."
        return Finding("warning", subject, _MOSQUITTO, cure)
    if facts.version.startswith("EMQX"):
        text = (
            "EMQX keeps sessions in memory unless durable sessions are on, and drops beyond "
            "mqtt.max_mqueue_len messages a session (1,000 by default)"
        )
        return Finding("warning", subject, text, "Set both as docs/how-to/scale.md says.")
    text = "it does not tell what it is; a broker keeps only what it persisted"
    cure = "See in its manual that sessions and their queues survive its restart and that no bound drops any."
    return Finding("warning", subject, text, cure)


def _dropped(facts: Facts, *, embedded: bool) -> Iterator[Finding]:
    number = re.match(r"\d+", facts.said.get(DROPPED, ""))
    if number is not None and int(number[0]) > 0:
        text = f"{int(number[0]):,} messages dropped since its start, because a subscriber's queue was full"
        yield Finding("warning", "broker dropped", text, f"{_OURS}max_queued_messages 0; then restart it.")
    elif number is not None:
        yield Finding("ok", "broker dropped", "nothing since its start")
    elif embedded:
        # Mosquitto may publish the counter only once it moved; ours has no bound that could move it.
        yield Finding("ok", "broker dropped", "nothing is dropped: its queues have no bound")
    elif facts.version.startswith("mosquitto"):
        cure = f"Unless nothing was dropped yet: give this user `topic read {DROPPED}` in its ACL."
        yield Finding("warning", "broker dropped", "whether it dropped messages cannot be read", cure)
