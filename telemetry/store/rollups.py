"""Rollups `reading_1h` and `reading_1d`: one meaning, in the form each edition has for it.

Readers see views of these names with the same columns everywhere (docs/reference/store.md). Below them lie
sums and counts of the usable readings, so that days may be made of hours: without TimescaleDB Community a
query over `reading`, there continuous aggregates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg

from .edition import Edition


class Rollup(NamedTuple):
    """One relation: its name, and the width of its buckets in seconds."""

    name: str
    seconds: int


HOUR = Rollup("reading_1h", 3_600)
DAY = Rollup("reading_1d", 86_400)

# A day begins at midnight of Asia/Ho_Chi_Minh: 17:00 UTC, as Vietnam has no summer time.
_ORIGIN = "timestamptz '2000-01-01 17:00+00'"
_BUCKET = {
    Edition.PLAIN: "date_bin(interval '{seconds} s', time, {origin})",
    Edition.APACHE: "time_bucket(interval '{seconds} s', time, {origin})",
    Edition.COMMUNITY: "time_bucket(interval '{seconds} s', time, {origin})",
}
_USABLE = "FILTER (WHERE quality NOT IN (4, 9))"
# Where no reading is usable, `usable` is NULL, and so is the mean. Pairs of time and value compare as such:
# the greatest is the newest value, and of several that new the greatest.
_FROM_READINGS = f"""
    SELECT {{bucket}} AS time, device_id, metric_id, channel,
           count(*) AS count,
           count(*) FILTER (WHERE quality = 1) AS good,
           nullif(count(*) {_USABLE}, 0) AS usable,
           sum(value) {_USABLE} AS total,
           min(value) {_USABLE} AS min,
           max(value) {_USABLE} AS max,
           (max(ARRAY[date_part('epoch', time), value]) {_USABLE})[2] AS last
    FROM reading GROUP BY 1, 2, 3, 4
"""  # noqa: S608
_VIEW = """
    CREATE OR REPLACE VIEW {name} AS
    SELECT r.time, r.device_id, r.metric_id, r.channel, r.count, r.good,
           r.total / r.usable AS mean, r.min, r.max, r.last,
           CASE WHEN m.kind = 'increment' THEN r.total END AS sum,
           least(1, r.count * t.expected_interval / {seconds}::float8) AS coverage
    FROM ({source}) r
    LEFT JOIN metric m ON m.id = r.metric_id
    LEFT JOIN device d ON d.id = r.device_id
    LEFT JOIN device_type t ON t.id = d.device_type
"""


def make_rollups(connection: psycopg.Connection[Any], edition: Edition) -> None:
    """Make the views as this edition has them, in place of another's."""
    for rollup in (HOUR, DAY):
        bucket = _BUCKET[edition].format(seconds=rollup.seconds, origin=_ORIGIN)
        source = _FROM_READINGS.format(bucket=bucket)
        connection.execute(_VIEW.format(name=rollup.name, seconds=rollup.seconds, source=source))
