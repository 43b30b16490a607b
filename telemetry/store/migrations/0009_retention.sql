-- What is kept, and for how long: telemetry.store.retention.
CREATE TABLE upkeep (                            -- one row for each relation that is not kept for ever
    relation text PRIMARY KEY,
    before   timestamptz NOT NULL,               -- of the newest pass that ended: what is older is gone
    ran_at   timestamptz NOT NULL,               -- when it ended
    removed  bigint NOT NULL DEFAULT 0           -- rows, or whole chunks, since ever
);

-- What is removed by its age is found by it.
CREATE INDEX superseded_time ON superseded (time);
CREATE INDEX logged_span_time ON logged_span (time);
CREATE INDEX untimed_time ON untimed (time);
CREATE INDEX message_alert ON message (alert_id);
CREATE INDEX message_created ON message (created_at);
CREATE INDEX health_alert_ended ON health_alert (ended_at);
