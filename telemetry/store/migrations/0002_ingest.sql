-- ---------------------------------------------------------------- who ingests, and when nobody did
CREATE TABLE ingest_member (                     -- one row per MQTT client id
    client_id  text PRIMARY KEY,
    share      text NOT NULL DEFAULT '',         -- shared-subscription group; empty: none
    filters    text[] NOT NULL DEFAULT '{}',     -- what it subscribes to
    broker     text NOT NULL DEFAULT '',         -- host:port
    mqtt       text NOT NULL DEFAULT '',         -- protocol version spoken: 5 or 3.1.1
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,             -- newest sign of life
    connected  boolean NOT NULL DEFAULT false,   -- subscribed at the broker, as of seen_at
    left_at    timestamptz                       -- it drained and unsubscribed: no share waits for it
);

CREATE TABLE ingest_gap (                        -- our own log of when a member did not listen
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id text NOT NULL,
    began_at  timestamptz NOT NULL,
    ended_at  timestamptz NOT NULL,
    why       text NOT NULL CHECK (why IN ('service', 'broker', 'session')),
                                                 -- we were down; it was unreachable; it forgot our session
    backfilled_at timestamptz,                   -- when a source that can be asked later was asked
    CHECK (ended_at >= began_at)
);
CREATE INDEX ingest_gap_ended ON ingest_gap (ended_at);

CREATE TABLE backfill_cursor (                   -- how far a source that keeps history was read
    source text PRIMARY KEY,
    until  timestamptz NOT NULL
);

CREATE TABLE qos_watch (                         -- publishers that promise no delivery
    root     text PRIMARY KEY,                   -- first two levels of the topic
    messages bigint NOT NULL,                    -- that came at QoS 0
    first_at timestamptz NOT NULL,
    last_at  timestamptz NOT NULL
);

CREATE TABLE health_alert (                      -- faults of the system itself, one open row a subject
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL,
    subject    text NOT NULL,
    detail     text NOT NULL,
    cure       text NOT NULL DEFAULT '',
    began_at   timestamptz NOT NULL,
    ended_at   timestamptz
);
CREATE UNIQUE INDEX health_alert_one_open ON health_alert (kind, subject) WHERE ended_at IS NULL;

-- ---------------------------------------------------------------- the radio link
ALTER TABLE uplink ADD COLUMN battery real;      -- %, where the network server tells it with the frame

-- The devices and hours a commit brought frames or events of, packed by telemetry.store.lanes.
ALTER TABLE lane_batch ADD COLUMN touched bytea NOT NULL DEFAULT '';
ALTER TABLE lane_batch ALTER COLUMN touched SET STORAGE EXTERNAL;

CREATE TABLE link (                              -- one row a device and hour that had frames or lost some
    time        timestamptz NOT NULL,            -- start of the hour
    device_id   integer NOT NULL,
    received    integer NOT NULL,
    lost_on_air integer NOT NULL,
    lost_by_us  integer NOT NULL,                -- within an ingest_gap: the air was not to blame
    resets      smallint NOT NULL,               -- the counter fell back without a new session
    rejoins     smallint NOT NULL,
    rssi        real,                            -- dBm, best
    snr         real,                            -- dB, best
    sf_min      smallint,
    sf_max      smallint,
    gateways    text[] NOT NULL DEFAULT '{}',
    battery     real,                            -- %, newest told within the hour
    margin      smallint                         -- dB, newest DevStatusAns
);
CREATE UNIQUE INDEX link_identity ON link (time, device_id);
CREATE INDEX link_device_time ON link (device_id, time DESC);
INSERT INTO follower VALUES ('link'), ('latest');

-- ---------------------------------------------------------------- rejects
ALTER TABLE reject DROP CONSTRAINT reject_state_check;
ALTER TABLE reject ADD CONSTRAINT reject_state_check
    CHECK (state IN ('open', 'waiting', 'retried', 'dismissed'));
ALTER TABLE reject ADD COLUMN tries integer NOT NULL DEFAULT 0;
ALTER TABLE reject ADD COLUMN tried_at timestamptz;
CREATE INDEX reject_waiting ON reject (id) WHERE state = 'waiting';
CREATE INDEX reject_received ON reject (received_at);

-- ---------------------------------------------------------------- HTTP intake
-- A key of the role `intake` may hand over messages and nothing else.
ALTER TABLE api_key DROP CONSTRAINT api_key_role_check;
ALTER TABLE api_key ADD CONSTRAINT api_key_role_check
    CHECK (role IN ('viewer', 'operator', 'engineer', 'admin', 'intake'));
ALTER TABLE api_key ADD COLUMN used_at timestamptz;
