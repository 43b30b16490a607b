"""What ingest counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from .histogram import BulkHistogram

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
ACK_DELAY = Histogram(
    "quantrac_ingest_ack_delay_seconds", "From a batch's first message to its acknowledgement"
)
LAG = BulkHistogram(
    "quantrac_ingest_lag_seconds",
    "From an uplink's own time to its COMMIT",
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86400),
)
BACKLOG = Gauge("quantrac_ingest_backlog_messages", "Messages received and not yet committed")
CONNECTED = Gauge("quantrac_ingest_connected", "1 while subscribed at the broker")
QOS0 = Counter("quantrac_ingest_qos0_total", "Messages published at QoS 0: no delivery promised", ["root"])
RETRIED = Counter("quantrac_ingest_rejects_retried_total", "Rejects tried again", ["outcome"])
CODEC_CALLS = Counter("quantrac_codec_calls_total", "Frames given to JavaScript codecs")
CODEC_FAILURES = Counter(
    "quantrac_codec_failures_total",
    "Frames that a JavaScript codec did not decode; refused: it said so itself",
    ["reason"],
)
CODEC_SECONDS = BulkHistogram(
    "quantrac_codec_seconds",
    "Time of a JavaScript codec for one frame",
    (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
)
CODEC_WORKERS_LOST = Counter(
    "quantrac_codec_workers_lost_total", "JavaScript worker processes that were replaced", ["reason"]
)
REMOVED = Counter("quantrac_retention_removed_total", "Rows and chunks removed by their age", ["relation"])
UPKEEP_ENDED = Gauge("quantrac_retention_ended_seconds", "When retention last went through all, Unix time")
