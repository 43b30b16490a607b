"""What the alert process counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVALUATED = Counter("quantrac_alert_batches_total", "Lane batches evaluated")
STEP = Histogram("quantrac_alert_step_seconds", "One step of the evaluator")
HEALTH = Gauge("quantrac_health_alerts", "Open faults of the system itself", ["kind"])
