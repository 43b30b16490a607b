-- ---------------------------------------------------------------- what network servers make of payloads
ALTER TABLE uplink ADD COLUMN normalized jsonb;  -- The Things Stack's normalized_payload: decoders.normalized

-- A counter that some device tells in a normalized payload: no map says so, and increments follow the maps.
ALTER TABLE metric ADD COLUMN normalized boolean NOT NULL DEFAULT false;
