"""What ingest counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECEIVED = Counter("quantrac_ingest_received_total", "Messages received", ["source", "qos"])
STORED = Counter("quantrac_ingest_stored_total", "Rows committed", ["kind"])
DUPLICATES = Counter("quantrac_ingest_duplicates_total", "Messages that were stored already")
REJECTED = Counter("quantrac_ingest_rejected_total", "Messages that became rejects", ["reason"])
RETRIES = Counter("quantrac_ingest_retries_total", "Batches tried again because the database was away")
DROPPED = Counter("quantrac_ingest_dropped_total", "QoS 0 messages dropped while the backlog was full")
BATCH = Histogram(
    "quantrac_ingest_batch_messages",
    "Messages in one transaction",
    buckets=(1, 5, 20, 100, 500, 1000, 2000, 5000),
)
COMMIT = Histogram("quantrac_ingest_commit_seconds", "Parse, decode, write and COMMIT of one batch")
BACKLOG = Gauge("quantrac_ingest_backlog_messages", "Messages received and not yet committed")
CONNECTED = Gauge("quantrac_ingest_connected", "1 while subscribed at the broker")
