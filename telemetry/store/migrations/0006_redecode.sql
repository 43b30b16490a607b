-- ---------------------------------------------------------------- versions of device types' maps
-- The stamp of a frame names codec, version and map: `uplink.decoded_by` is codec@version/map_version.
ALTER TABLE device_type ADD COLUMN map_version text GENERATED ALWAYS AS (left(md5(mapping::text), 8)) STORED;

CREATE TABLE device_type_map (                   -- what each version was; named by its content, never changes
    map_version text PRIMARY KEY,
    mapping     jsonb NOT NULL,
    added_at    timestamptz NOT NULL DEFAULT now()
);
INSERT INTO device_type_map (map_version, mapping) SELECT DISTINCT ON (map_version) map_version, mapping FROM device_type;

CREATE FUNCTION keep_map() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO device_type_map (map_version, mapping) VALUES (NEW.map_version, NEW.mapping)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER device_type_map_kept AFTER INSERT OR UPDATE ON device_type
    FOR EACH ROW EXECUTE FUNCTION keep_map();

-- ---------------------------------------------------------------- decoding again
CREATE TABLE redecoding (                        -- an order to decode stored frames again, one job a device
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_type  text,                           -- NULL: the devices were named
    since        timestamptz NOT NULL,           -- of the frames
    until        timestamptz,
    every_frame  boolean NOT NULL DEFAULT false, -- those that carry the present stamp, too
    detached     boolean NOT NULL DEFAULT false, -- ingest works it off, not who ordered it
    requested_at timestamptz NOT NULL DEFAULT now(),
    requested_by text NOT NULL
);

-- Without a redecoding a job is for frames that were never decoded: the device was adopted.
ALTER TABLE decode_job ADD COLUMN redecoding_id bigint REFERENCES redecoding ON DELETE CASCADE;
ALTER TABLE decode_job ADD COLUMN expected bigint;           -- frames in its span, when it was ordered
ALTER TABLE decode_job ADD COLUMN changed bigint NOT NULL DEFAULT 0;    -- frames whose readings changed
ALTER TABLE decode_job ADD COLUMN untouched bigint NOT NULL DEFAULT 0;  -- left as they were: no codec answered
ALTER TABLE decode_job ADD COLUMN reached_time timestamptz;  -- frames up to here are done
ALTER TABLE decode_job ADD COLUMN reached_id bigint;
ALTER TABLE decode_job ADD COLUMN recipe text;               -- what they were decoded by; when it changes, all begins anew
ALTER TABLE decode_job DROP CONSTRAINT decode_job_state_check;
ALTER TABLE decode_job ADD CONSTRAINT decode_job_state_check
    CHECK (state IN ('waiting', 'done', 'failed', 'cancelled'));
CREATE INDEX decode_job_redecoding ON decode_job (redecoding_id, state);
CREATE INDEX decode_job_adoption ON decode_job (id) WHERE state = 'waiting' AND redecoding_id IS NULL;

CREATE TABLE superseded (                        -- what a frame said before it was decoded again
    time        timestamptz NOT NULL,            -- of the frame
    uplink_id   bigint NOT NULL,
    job_id      bigint NOT NULL,
    replaced_at timestamptz NOT NULL DEFAULT now(),
    decoded_by  text,
    problem     text,
    readings    jsonb NOT NULL                   -- those that gave way: [metric_id, channel, µs, value, raw, quality]
);
CREATE INDEX superseded_frame ON superseded (uplink_id, replaced_at);

CREATE TABLE logged_span (                       -- frames with datalogs: how far back their readings go
    uplink_id bigint PRIMARY KEY,
    device_id integer NOT NULL,
    time      timestamptz NOT NULL,              -- of the frame
    oldest    timestamptz NOT NULL               -- of its readings
);
CREATE INDEX logged_span_device ON logged_span (device_id);
INSERT INTO logged_span (uplink_id, device_id, time, oldest)
SELECT u.id, u.device_id, u.time, min(r.time)
FROM device_type t
JOIN device d ON d.device_type = t.id
JOIN reading r ON r.device_id = d.id
JOIN uplink u ON u.id = r.uplink_id
WHERE jsonb_path_exists(t.mapping, '$[*].records') AND r.time < u.time
GROUP BY u.id, u.device_id, u.time;
