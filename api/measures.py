"""What Prometheus is told of the API."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from telemetry.observability import METRIC_PREFIX

REQUESTS = Counter(
    METRIC_PREFIX + "http_requests", "Requests answered, by route.", ("method", "route", "status")
)
SECONDS = Histogram(
    METRIC_PREFIX + "http_request_seconds",
    "Seconds until an answer began.",
    ("route",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
STREAM_CLIENTS = Gauge(METRIC_PREFIX + "stream_clients", "Clients that listen to /stream.")
STREAM_DROPPED = Counter(METRIC_PREFIX + "stream_dropped", "Clients of /stream dropped for being slow.")
REPLICA_LAG = Gauge(METRIC_PREFIX + "replica_lag_seconds", "Seconds the replica is behind; NaN: unknown.")
READS = Counter(METRIC_PREFIX + "heavy_reads", "Heavy queries, by the server that answered.", ("server",))
