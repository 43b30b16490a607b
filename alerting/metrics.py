"""What the alert process counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

EVALUATED = Counter("quantrac_alert_batches_total", "Lane batches evaluated")
STEP = Histogram("quantrac_alert_step_seconds", "One step of the evaluator")
