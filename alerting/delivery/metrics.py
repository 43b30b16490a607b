"""What Prometheus learns about deliveries."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)

ATTEMPTS = Counter(
    "quantrac_webhook_attempts",
    "Tries to deliver a webhook, by outcome: delivered, retry, failed (the last one), disabled.",
    ["outcome"],
)
DURATION = Histogram(
    "quantrac_webhook_duration_seconds", "Time one try took, name look-up included.", buckets=_SECONDS
)
LAG = Histogram(
    "quantrac_webhook_lag_seconds",
    "Time from a delivery's making to its success.",
    buckets=(*_SECONDS, 60, 300, 3600, 86400),
)
PENDING = Gauge("quantrac_deliveries_pending", "Deliveries not yet done, disabled endpoints left out.")
