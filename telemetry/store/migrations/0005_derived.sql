-- ---------------------------------------------------------------- calibration
ALTER TABLE reading ADD COLUMN raw double precision;  -- as decoded, where a calibration corrected `value`

CREATE TABLE calibration (                       -- periods of one series never overlap
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id  integer NOT NULL REFERENCES device ON DELETE CASCADE,
    metric_id  smallint NOT NULL REFERENCES metric,
    channel    smallint NOT NULL DEFAULT 0 CHECK (channel >= 0),
    valid_from timestamptz NOT NULL,
    valid_to   timestamptz,                      -- NULL: until further notice
    definition jsonb NOT NULL,                   -- gain and offset, or points: decoders.calibration
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT '',
    CHECK (valid_to > valid_from)
);
CREATE INDEX calibration_series ON calibration (device_id, metric_id, channel, valid_from);

-- An exclusion constraint would need an extension that not every server offers.
CREATE FUNCTION refuse_calibration_overlap() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    other calibration;
BEGIN
    PERFORM FROM device WHERE id = NEW.device_id FOR NO KEY UPDATE;
    SELECT * INTO other FROM calibration c
    WHERE c.id <> NEW.id AND c.device_id = NEW.device_id AND c.metric_id = NEW.metric_id
      AND c.channel = NEW.channel
      AND tstzrange(c.valid_from, c.valid_to) && tstzrange(NEW.valid_from, NEW.valid_to) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'calibration % holds from % to % already', other.id, other.valid_from,
            coalesce(other.valid_to::text, 'further notice')
            USING ERRCODE = 'exclusion_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER calibration_overlap BEFORE INSERT OR UPDATE ON calibration
    FOR EACH ROW EXECUTE FUNCTION refuse_calibration_overlap();
CREATE TRIGGER calibration_changed AFTER INSERT OR UPDATE OR DELETE ON calibration
    FOR EACH STATEMENT EXECUTE FUNCTION bump_registry();

CREATE TABLE calibration_job (                   -- a span of a series whose readings are to be corrected anew
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id    integer NOT NULL REFERENCES device ON DELETE CASCADE,
    metric_id    smallint NOT NULL REFERENCES metric,
    channel      smallint NOT NULL,
    valid_from   timestamptz NOT NULL,
    valid_to     timestamptz,
    state        text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'failed')),
    requested_at timestamptz NOT NULL DEFAULT now(),
    reached      timestamptz,                    -- readings up to this time are done
    readings     bigint NOT NULL DEFAULT 0,      -- that changed
    finished_at  timestamptz,
    error        text
);
CREATE INDEX calibration_job_waiting ON calibration_job (id) WHERE state = 'waiting';
CREATE INDEX calibration_job_device ON calibration_job (device_id, id);

-- Also when somebody edits with psql. Of a device that is being deleted nothing is left to be corrected.
CREATE FUNCTION ask_for_calibration() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one calibration;
BEGIN
    FOREACH one IN ARRAY CASE TG_OP WHEN 'INSERT' THEN ARRAY[NEW] WHEN 'DELETE' THEN ARRAY[OLD]
                              ELSE ARRAY[OLD, NEW] END LOOP
        INSERT INTO calibration_job (device_id, metric_id, channel, valid_from, valid_to)
        SELECT id, one.metric_id, one.channel, one.valid_from, one.valid_to
        FROM device WHERE id = one.device_id;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER calibration_touches AFTER INSERT OR UPDATE OR DELETE ON calibration
    FOR EACH ROW EXECUTE FUNCTION ask_for_calibration();

-- ---------------------------------------------------------------- readings that replace others
-- Its readings replace ones told before: who keeps the newest must look at the table, not compare values.
ALTER TABLE lane_batch ADD COLUMN rewritten boolean NOT NULL DEFAULT false;

INSERT INTO follower VALUES ('increments');
