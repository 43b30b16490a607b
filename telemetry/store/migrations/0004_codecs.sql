-- ---------------------------------------------------------------- vendors' JavaScript codecs
-- A version is identified by its content, so it never changes; what a frame was decoded by stays readable.
CREATE TABLE codec (
    id       text NOT NULL CHECK (id <> ''),
    version  text NOT NULL CHECK (version ~ '^[0-9a-f]{16}$'),  -- of the SHA-256 of the source
    source   text NOT NULL,
    fresh    boolean NOT NULL DEFAULT false,     -- whether every call gets a context of its own
    origin   text NOT NULL DEFAULT '',           -- where it came from: a folder, a repository, the API
    added_at timestamptz NOT NULL DEFAULT clock_timestamp(),    -- the newest is used where none is named
    added_by text NOT NULL DEFAULT '',
    PRIMARY KEY (id, version),
    CHECK (version = left(encode(sha256(convert_to(source, 'UTF8')), 'hex'), 16))
);

CREATE FUNCTION refuse_codec_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'codec %@% never changes; add the new source as a version of its own', OLD.id, OLD.version
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER codec_immutable BEFORE UPDATE ON codec
    FOR EACH ROW EXECUTE FUNCTION refuse_codec_change();

-- Adding what is there already changes nothing, and need not make every writer read the registry again.
CREATE FUNCTION bump_registry_for_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM touched) THEN
        UPDATE registry_version SET version = version + 1;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER codec_added AFTER INSERT ON codec REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION bump_registry_for_rows();
CREATE TRIGGER codec_removed AFTER DELETE ON codec REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION bump_registry_for_rows();

-- ---------------------------------------------------------------- which of them a device speaks
-- [{"codec": "…", "version": "…", "firmware": "1.2", "from": "…", "to": "…"}]: the first that fits, else
-- device_type.codec. decoders.mapping.choose_codec says what fits.
ALTER TABLE device_type ADD COLUMN codecs jsonb NOT NULL DEFAULT '[]'
    CHECK (jsonb_typeof(codecs) = 'array');
ALTER TABLE device_type ADD COLUMN codec_version text;  -- of device_type.codec; NULL: the newest
ALTER TABLE device ADD COLUMN firmware text;
