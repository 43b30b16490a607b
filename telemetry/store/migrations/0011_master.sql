-- ---------------------------------------------------------------- administrative units
-- Codes are given again: 24 was Bắc Giang until July 2025 and is Bắc Ninh since. So a unit is a code and a
-- period, and one code names one unit at a time. Periods are of days in Vietnam, the last one not included; an
-- unbounded end is NULL.
CREATE TABLE admin_unit (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code       text NOT NULL CHECK (code ~ '^[0-9A-Za-z][0-9A-Za-z._-]{0,31}$'),
    name       text NOT NULL CHECK (name <> ''),
    name_en    text NOT NULL DEFAULT '',
    level      text NOT NULL CHECK (level IN ('province', 'district', 'commune')),
    parent     text,                             -- the code of whoever held it at that time
    valid_from date,
    valid_to   date,
    successors text[] NOT NULL DEFAULT '{}',     -- codes, as of valid_to
    source     text NOT NULL DEFAULT '',
    certainty  text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (valid_to > valid_from),
    CONSTRAINT admin_unit_identity UNIQUE NULLS NOT DISTINCT (code, valid_from),
    -- Ranges of one number stand for equality: GiST has them without an extension.
    CONSTRAINT admin_unit_one_at_a_time EXCLUDE USING gist (
        int8range(hashtextextended(code, 0), hashtextextended(code, 0), '[]') WITH &&,
        daterange(valid_from, valid_to) WITH &&) DEFERRABLE
);
CREATE INDEX admin_unit_parent ON admin_unit (parent, code);
CREATE INDEX admin_unit_successors ON admin_unit USING gin (successors);

CREATE FUNCTION vietnam_day(at timestamptz) RETURNS date LANGUAGE sql STABLE AS $$
    SELECT (at AT TIME ZONE 'Asia/Ho_Chi_Minh')::date
$$;
-- Files and programs name a unit by its code, and one that is no more by code@day: 24@2025-06-30.
CREATE FUNCTION unit_id_of(reference text) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT id FROM admin_unit
    WHERE code = split_part(reference, '@', 1)
      AND daterange(valid_from, valid_to)
          @> coalesce(nullif(split_part(reference, '@', 2), '')::date, vietnam_day(now()))
$$;
CREATE FUNCTION unit_reference(unit admin_unit) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN daterange(unit.valid_from, unit.valid_to) @> vietnam_day(now()) THEN unit.code
                ELSE unit.code || '@' || coalesce(unit.valid_to - 1, unit.valid_from) END
$$;

-- ---------------------------------------------------------------- owners, facilities, gateways
CREATE TABLE owner (                             -- organisations
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code       text NOT NULL UNIQUE CHECK (code ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name       text NOT NULL CHECK (name <> ''),
    name_en    text NOT NULL DEFAULT '',
    kind       text NOT NULL DEFAULT '',         -- agency, company, …
    address    text NOT NULL DEFAULT '',
    contact    text NOT NULL DEFAULT '',
    note       text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE facility (                          -- plants with permits, industrial zones
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code        text NOT NULL UNIQUE CHECK (code ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name        text NOT NULL CHECK (name <> ''),
    name_en     text NOT NULL DEFAULT '',
    kind        text NOT NULL DEFAULT '',        -- plant, industrial-zone, …
    sector      text NOT NULL DEFAULT '',
    address     text NOT NULL DEFAULT '',
    owner_id    integer REFERENCES owner,
    unit_id     integer REFERENCES admin_unit,
    latitude    double precision CHECK (latitude BETWEEN -90 AND 90),
    longitude   double precision CHECK (longitude BETWEEN -180 AND 180),
    permit      text NOT NULL DEFAULT '',        -- its number
    permit_from date,
    permit_to   date,                            -- the last day it holds
    note        text NOT NULL DEFAULT '',
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CHECK ((latitude IS NULL) = (longitude IS NULL)),
    CHECK (permit_to >= permit_from)
);
CREATE INDEX facility_owner ON facility (owner_id);
CREATE INDEX facility_unit ON facility (unit_id);

CREATE TABLE gateway (                           -- those that somebody registered
    gateway_id text PRIMARY KEY CHECK (gateway_id ~ '^[0-9A-Za-z][0-9A-Za-z._:-]{0,127}$'),
    name       text NOT NULL DEFAULT '',
    network    text NOT NULL DEFAULT '',
    place      text NOT NULL DEFAULT '',
    owner_id   integer REFERENCES owner,
    latitude   double precision CHECK (latitude BETWEEN -90 AND 90),
    longitude  double precision CHECK (longitude BETWEEN -180 AND 180),
    altitude   double precision,                 -- m
    note       text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((latitude IS NULL) = (longitude IS NULL))
);
CREATE INDEX gateway_owner ON gateway (owner_id);

-- Written by the job that keeps `link`, and by it alone; an hour is as exact as it gets.
CREATE TABLE gateway_seen (
    gateway_id text PRIMARY KEY,
    first_seen timestamptz NOT NULL,             -- start of the hour
    seen_at    timestamptz NOT NULL,             -- start of the newest hour
    device_id  integer NOT NULL                  -- a device it heard then
);
INSERT INTO gateway_seen
SELECT DISTINCT ON (g) g, min(l.time) OVER (PARTITION BY g), l.time, l.device_id
FROM link l CROSS JOIN unnest(l.gateways) AS g
WHERE l.time > (SELECT max(time) FROM link) - interval '30 days'
ORDER BY g, l.time DESC, l.device_id;

-- ---------------------------------------------------------------- who belonged to whom, and when
ALTER TABLE station ADD COLUMN unit_id integer REFERENCES admin_unit;
ALTER TABLE station ADD COLUMN owner_id integer REFERENCES owner;
ALTER TABLE station ADD COLUMN facility_id integer REFERENCES facility;
CREATE INDEX station_unit ON station (unit_id);
CREATE INDEX station_owner ON station (owner_id);
CREATE INDEX station_facility ON station (facility_id);

-- The present value stands in `device` and `station`, its history here: the period without an end is the
-- present one. What is told first holds for all time before it, as readings may be older than their device.
CREATE TABLE device_station_period (
    device_id  integer NOT NULL REFERENCES device ON DELETE CASCADE,
    station_id integer NOT NULL REFERENCES station ON DELETE CASCADE,
    valid_from timestamptz,
    valid_to   timestamptz,
    CHECK (valid_to > valid_from),
    CONSTRAINT device_station_one_at_a_time EXCLUDE USING gist (
        int4range(device_id, device_id, '[]') WITH &&, tstzrange(valid_from, valid_to) WITH &&) DEFERRABLE
);
CREATE INDEX device_station_device ON device_station_period (device_id, valid_from);
CREATE INDEX device_station_station ON device_station_period (station_id);

CREATE TABLE station_unit_period (
    station_id integer NOT NULL REFERENCES station ON DELETE CASCADE,
    unit_id    integer NOT NULL REFERENCES admin_unit,
    valid_from timestamptz,
    valid_to   timestamptz,
    CHECK (valid_to > valid_from),
    CONSTRAINT station_unit_one_at_a_time EXCLUDE USING gist (
        int4range(station_id, station_id, '[]') WITH &&, tstzrange(valid_from, valid_to) WITH &&) DEFERRABLE
);
CREATE INDEX station_unit_station ON station_unit_period (station_id, valid_from);
CREATE INDEX station_unit_unit ON station_unit_period (unit_id);

CREATE TABLE station_owner_period (
    station_id integer NOT NULL REFERENCES station ON DELETE CASCADE,
    owner_id   integer NOT NULL REFERENCES owner,
    valid_from timestamptz,
    valid_to   timestamptz,
    CHECK (valid_to > valid_from),
    CONSTRAINT station_owner_one_at_a_time EXCLUDE USING gist (
        int4range(station_id, station_id, '[]') WITH &&, tstzrange(valid_from, valid_to) WITH &&) DEFERRABLE
);
CREATE INDEX station_owner_station ON station_owner_period (station_id, valid_from);
CREATE INDEX station_owner_owner ON station_owner_period (owner_id);

CREATE TABLE station_facility_period (
    station_id  integer NOT NULL REFERENCES station ON DELETE CASCADE,
    facility_id integer NOT NULL REFERENCES facility,
    valid_from  timestamptz,
    valid_to    timestamptz,
    CHECK (valid_to > valid_from),
    CONSTRAINT station_facility_one_at_a_time EXCLUDE USING gist (
        int4range(station_id, station_id, '[]') WITH &&, tstzrange(valid_from, valid_to) WITH &&) DEFERRABLE
);
CREATE INDEX station_facility_station ON station_facility_period (station_id, valid_from);
CREATE INDEX station_facility_facility ON station_facility_period (facility_id);

INSERT INTO device_station_period SELECT id, station_id FROM device WHERE station_id IS NOT NULL;

-- From `since` until before `until` it was `object` (NULL: nothing): what was told of that span gives way,
-- and what touches it and says the same becomes one period with it. `belonging` is device_station,
-- station_unit, station_owner or station_facility.
CREATE FUNCTION set_period(belonging text, subject integer, object integer, since timestamptz, until timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    subject_id text := split_part(belonging, '_', 1) || '_id';
    object_id  text := split_part(belonging, '_', 2) || '_id';
    others     integer[];
BEGIN
    IF belonging = 'device_station' THEN
        SELECT array_agg(p.station_id) INTO others FROM device_station_period p
        WHERE p.device_id = subject AND tstzrange(p.valid_from, p.valid_to) && tstzrange(since, until);
    END IF;
    EXECUTE format($q$
        WITH asked AS (SELECT tstzrange($3, $4) AS span), gone AS (
            DELETE FROM %1$I p USING asked
            WHERE p.%2$I = $1 AND (tstzrange(p.valid_from, p.valid_to) && span
                                   OR (tstzrange(p.valid_from, p.valid_to) -|- span AND p.%3$I = $2))
            RETURNING p.%3$I AS object, p.valid_from, p.valid_to
        )
        INSERT INTO %1$I (%2$I, %3$I, valid_from, valid_to)
        SELECT $1, object, valid_from, $3 FROM gone
        WHERE object IS DISTINCT FROM $2 AND $3 IS NOT NULL AND (valid_from IS NULL OR valid_from < $3)
        UNION ALL
        SELECT $1, object, $4, valid_to FROM gone
        WHERE object IS DISTINCT FROM $2 AND $4 IS NOT NULL AND (valid_to IS NULL OR valid_to > $4)
        UNION ALL
        SELECT $1, $2, lower(whole), upper(whole)
        FROM (SELECT range_merge(range_agg(span)) AS whole
              FROM (SELECT span FROM asked
                    UNION ALL SELECT tstzrange(valid_from, valid_to) FROM gone WHERE object = $2) same) merged
        WHERE $2 IS NOT NULL
    $q$, belonging || '_period', subject_id, object_id) USING subject, object, since, until;
    IF belonging = 'device_station' THEN
        PERFORM ask_for_move(subject, others || object, since, until);
    END IF;
END $$;

-- The same, and the present value in `device` or `station` follows.
CREATE FUNCTION set_belonging(belonging text, subject integer, object integer, since timestamptz,
                              until timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    kind      text := split_part(belonging, '_', 1);
    object_id text := split_part(belonging, '_', 2) || '_id';
BEGIN
    EXECUTE format('SELECT FROM %I WHERE id = $1 FOR NO KEY UPDATE', kind) USING subject;
    PERFORM set_period(belonging, subject, object, since, until);
    EXECUTE format(
        'UPDATE %1$I SET updated_at = now(),
                %2$I = (SELECT %2$I FROM %3$I WHERE %4$I = $1 AND valid_to IS NULL)
         WHERE id = $1', kind, object_id, belonging || '_period', kind || '_id') USING subject;
END $$;

-- Whoever changes the present value, also with psql, ends one period and begins another.
CREATE FUNCTION keep_period() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    belonging text := TG_ARGV[0];
    object_id text := split_part(belonging, '_', 2) || '_id';
    object    integer := to_jsonb(NEW) ->> object_id;
    known     boolean;
    newest    timestamptz;
    present   integer;
BEGIN
    EXECUTE format('SELECT count(*) > 0, max(valid_from), max(%1$I) FILTER (WHERE valid_to IS NULL)
                    FROM %2$I WHERE %3$I = $1', object_id, belonging || '_period', TG_TABLE_NAME || '_id')
    INTO known, newest, present USING NEW.id;
    IF present IS DISTINCT FROM object THEN
        PERFORM set_period(belonging, NEW.id, object, CASE WHEN known THEN greatest(now(), newest) END, NULL);
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION begin_periods() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    belonging text;
BEGIN
    FOREACH belonging IN ARRAY TG_ARGV LOOP
        EXECUTE format('INSERT INTO %1$I (%2$I, %3$I) SELECT id, %3$I FROM added WHERE %3$I IS NOT NULL',
                       belonging || '_period', TG_TABLE_NAME || '_id', split_part(belonging, '_', 2) || '_id');
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER device_periods_begin AFTER INSERT ON device REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION begin_periods('device_station');
CREATE TRIGGER station_periods_begin AFTER INSERT ON station REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION begin_periods('station_unit', 'station_owner', 'station_facility');
CREATE TRIGGER device_station_kept AFTER UPDATE ON device FOR EACH ROW
    WHEN (OLD.station_id IS DISTINCT FROM NEW.station_id) EXECUTE FUNCTION keep_period('device_station');
CREATE TRIGGER station_unit_kept AFTER UPDATE ON station FOR EACH ROW
    WHEN (OLD.unit_id IS DISTINCT FROM NEW.unit_id) EXECUTE FUNCTION keep_period('station_unit');
CREATE TRIGGER station_owner_kept AFTER UPDATE ON station FOR EACH ROW
    WHEN (OLD.owner_id IS DISTINCT FROM NEW.owner_id) EXECUTE FUNCTION keep_period('station_owner');
CREATE TRIGGER station_facility_kept AFTER UPDATE ON station FOR EACH ROW
    WHEN (OLD.facility_id IS DISTINCT FROM NEW.facility_id) EXECUTE FUNCTION keep_period('station_facility');

-- `station.admin_unit` is what people read; it is the unit's name unless somebody chose other words.
CREATE FUNCTION name_unit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.admin_unit = '' OR (TG_OP = 'UPDATE' AND OLD.unit_id IS DISTINCT FROM NEW.unit_id
            AND NEW.admin_unit = (SELECT name FROM admin_unit WHERE id = OLD.unit_id)) THEN
        NEW.admin_unit := coalesce((SELECT name FROM admin_unit WHERE id = NEW.unit_id), '');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER station_unit_named BEFORE INSERT OR UPDATE ON station FOR EACH ROW EXECUTE FUNCTION name_unit();

CREATE FUNCTION station_at(device integer, at timestamptz) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT station_id FROM device_station_period p
    WHERE p.device_id = device AND tstzrange(p.valid_from, p.valid_to) @> at
$$;
CREATE FUNCTION unit_at(station integer, at timestamptz) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT unit_id FROM station_unit_period p
    WHERE p.station_id = station AND tstzrange(p.valid_from, p.valid_to) @> at
$$;
CREATE FUNCTION owner_at(station integer, at timestamptz) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT owner_id FROM station_owner_period p
    WHERE p.station_id = station AND tstzrange(p.valid_from, p.valid_to) @> at
$$;
CREATE FUNCTION facility_at(station integer, at timestamptz) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT facility_id FROM station_facility_period p
    WHERE p.station_id = station AND tstzrange(p.valid_from, p.valid_to) @> at
$$;

-- ---------------------------------------------------------------- readings to be judged anew
-- What changes for a station changes for its group. How far back: a month, the time in which people look at flags.
CREATE FUNCTION ask_for_stations(stations integer[], groups text[], since timestamptz, until timestamptz,
                                 reason text)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO quality_job (device_id, valid_from, valid_to, why, priority)
    SELECT DISTINCT ON (p.device_id) p.device_id, since, until, reason, 2
    FROM device_station_period p JOIN station s ON s.id = p.station_id
    WHERE (s.id = ANY(stations) OR s.quality ->> 'group' = ANY(groups))
      AND tstzrange(p.valid_from, p.valid_to) && tstzrange(since, until)
      AND NOT EXISTS (SELECT FROM quality_job j WHERE j.device_id = p.device_id AND j.metric_id IS NULL
                      AND j.state = 'waiting' AND j.reached IS NULL AND j.valid_from <= since
                      AND (j.valid_to IS NULL OR j.valid_to >= until))
$$;
CREATE FUNCTION station_quality_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed record;
BEGIN
    SELECT array_agg(n.id) AS stations,
           array_agg(o.quality ->> 'group') || array_agg(n.quality ->> 'group') AS groups,
           min(n.code) || CASE WHEN count(*) > 1 THEN ' and others' ELSE '' END AS names
    INTO changed FROM is_now n JOIN was o USING (id) WHERE o.quality IS DISTINCT FROM n.quality;
    IF changed.stations IS NOT NULL THEN
        PERFORM ask_for_stations(changed.stations, changed.groups, now() - interval '31 days', NULL,
                                 'checks of station ' || changed.names);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER station_quality_changed AFTER UPDATE ON station REFERENCING OLD TABLE AS was NEW TABLE AS is_now
    FOR EACH STATEMENT EXECUTE FUNCTION station_quality_changed();

-- A device was, or was not, at these stations in this span.
CREATE FUNCTION ask_for_move(device integer, stations integer[], since timestamptz, until timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    start  timestamptz := greatest(since, now() - interval '31 days');
    groups text[] := (SELECT array_agg(quality ->> 'group') FROM station WHERE id = ANY(stations));
BEGIN
    IF until <= start OR NOT coalesce(since < now(), until IS NOT NULL) AND NOT EXISTS (
            SELECT FROM station WHERE id = ANY(stations) AND quality <> '{}') THEN
        RETURN;
    END IF;
    INSERT INTO quality_job (device_id, valid_from, valid_to, why, priority)
    SELECT device, start, until, 'the device changed its station', 2
    WHERE NOT EXISTS (SELECT FROM quality_job j WHERE j.device_id = device AND j.metric_id IS NULL
                      AND j.state = 'waiting' AND j.reached IS NULL AND j.valid_from <= start
                      AND (j.valid_to IS NULL OR j.valid_to >= until));
    PERFORM ask_for_stations('{}', groups, start, until, 'a device changed its station');
END $$;

-- Who goes was somebody's neighbour.
CREATE FUNCTION neighbour_goes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    stations integer[] := CASE TG_TABLE_NAME WHEN 'station' THEN ARRAY[OLD.id] ELSE ARRAY(
        SELECT station_id FROM device_station_period WHERE device_id = OLD.id) END;
    groups text[] := ARRAY(SELECT quality ->> 'group' FROM station WHERE id = ANY(stations));
    since  timestamptz := now() - interval '31 days';
BEGIN
    IF EXISTS (SELECT FROM station WHERE id = ANY(stations) AND quality <> '{}') THEN
        PERFORM ask_for_stations(CASE TG_TABLE_NAME WHEN 'station' THEN stations ELSE '{}' END, groups, since, NULL,
                                 'a ' || TG_TABLE_NAME || ' was removed');
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER device_goes BEFORE DELETE ON device FOR EACH ROW EXECUTE FUNCTION neighbour_goes();
CREATE TRIGGER station_goes BEFORE DELETE ON station FOR EACH ROW EXECUTE FUNCTION neighbour_goes();

-- ---------------------------------------------------------------- where a number comes from
-- Of which job something is left: that job is kept.
CREATE INDEX superseded_job ON superseded (job_id);

-- Everything that stands behind a reading, one document for each that a series has at that time: its frame, codec
-- and map, calibration, flags, what people said of it, what it said before it was decoded again, and of an
-- increment the two counts it lies between. In `tests`: 1 suspect, 2 fail, by number (telemetry.checks.Check).
CREATE FUNCTION reading_provenance(device integer, metric_key text, channel_number smallint, at timestamptz)
RETURNS SETOF jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'time', r.time, 'dev_eui', d.dev_eui, 'station', s.code, 'metric', m.key, 'unit', m.unit,
        'channel', r.channel, 'value', r.value, 'raw', coalesce(r.raw, r.value), 'quality', r.quality,
        'flag_it_came_with', base_flag(r.quality, r.tests),
        'tests', (SELECT coalesce(jsonb_object_agg(n, r.tests >> (2 * n) & 3), '{}') FROM generate_series(1, 10) n
                  WHERE r.tests >> (2 * n) & 3 > 0),
        'uplink_id', r.uplink_id::text,
        'frame', (
            SELECT jsonb_build_object(
                'time', u.time, 'ns_time', u.ns_time, 'ingest_time', u.ingest_time, 'dedup_key', u.dedup_key,
                'f_cnt', u.f_cnt, 'f_port', u.f_port, 'payload_hex', encode(u.payload, 'hex'),
                'network', u.network, 'gateways', coalesce(u.gateways, '[]'), 'fields', u.fields,
                'problem', u.problem, 'decoded_by', u.decoded_by)
            FROM uplink u WHERE u.id = r.uplink_id LIMIT 1),
        'map', (
            SELECT jsonb_build_object('version', v.map_version, 'entries', v.mapping)
            FROM uplink u JOIN device_type_map v ON v.map_version = substring(u.decoded_by FROM '/([^/]*)$')
            WHERE u.id = r.uplink_id LIMIT 1),
        'calibration', (
            SELECT jsonb_build_object('id', c.id, 'metric', cm.key, 'from', c.valid_from, 'to', c.valid_to,
                                      'definition', c.definition, 'created_at', c.created_at,
                                      'created_by', c.created_by)
            FROM calibration c JOIN metric cm ON cm.id = c.metric_id
            WHERE c.device_id = r.device_id AND c.channel = r.channel AND r.raw IS NOT NULL
              AND (c.metric_id = r.metric_id OR cm.increment = r.metric_id)
              AND c.valid_from <= r.time AND r.time < coalesce(c.valid_to, 'infinity')
            ORDER BY c.metric_id = r.metric_id DESC LIMIT 1),
        'overrides', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'id', o.id, 'from', o.valid_from, 'to', o.valid_to, 'quality', o.quality, 'reason', o.reason,
                'created_at', o.created_at, 'created_by', o.created_by, 'withdrawn_at', o.withdrawn_at,
                'withdrawn_by', o.withdrawn_by, 'withdrawn_reason', o.withdrawn_reason) ORDER BY o.id DESC), '[]')
            FROM quality_override o
            WHERE o.device_id = r.device_id AND o.metric_id = r.metric_id AND o.channel = r.channel
              AND o.valid_from <= r.time AND r.time < coalesce(o.valid_to, 'infinity')),
        'decoded_again', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'at', p.replaced_at, 'job', p.job_id, 'requested_by', j.requested_by, 'decoded_by', p.decoded_by,
                'said', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                             'value', one -> 3, 'raw', one -> 4, 'quality', one -> 5)), '[]')
                         FROM jsonb_array_elements(p.readings) one
                         WHERE (one ->> 0)::int = r.metric_id AND (one ->> 1)::int = r.channel
                           AND (one ->> 2)::int8 = (extract(epoch FROM r.time) * 1000000)::int8))
                ORDER BY p.replaced_at DESC), '[]')
            FROM superseded p LEFT JOIN decode_job j ON j.id = p.job_id WHERE p.uplink_id = r.uplink_id),
        'counts', (
            SELECT jsonb_agg(jsonb_build_object('time', two.time, 'metric', c.key, 'value', two.value,
                                                'uplink_id', two.uplink_id::text) ORDER BY two.time)
            FROM metric c CROSS JOIN LATERAL (
                SELECT DISTINCT ON (x.time) x.time, x.value, x.uplink_id FROM reading x
                WHERE x.device_id = r.device_id AND x.metric_id = c.id AND x.channel = r.channel
                  AND x.time <= r.time AND x.quality NOT IN (4, 9)
                ORDER BY x.time DESC, x.value DESC LIMIT 2) two
            WHERE c.increment = r.metric_id
            HAVING max(two.time) = r.time))
    FROM reading r
    JOIN metric m ON m.id = r.metric_id
    JOIN device d ON d.id = r.device_id
    LEFT JOIN station s ON s.id = station_at(d.id, r.time)
    WHERE r.device_id = device AND r.metric_id = (SELECT id FROM metric WHERE key = metric_key)
      AND r.channel = channel_number AND r.time = at
    ORDER BY r.uplink_id, r.value
$$;
