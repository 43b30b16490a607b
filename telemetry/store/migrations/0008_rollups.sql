-- Rollups by the hour and by the day: telemetry.store.rollups makes `reading_1h` and `reading_1d`, as the
-- edition of the database has them.
-- What a metric's readings are: the catalogue is copied here at every migration. Of increments a rollup has a sum.
ALTER TABLE metric ADD COLUMN kind text NOT NULL DEFAULT 'instant'
    CHECK (kind IN ('instant', 'mean', 'counter', 'increment'));

-- TimescaleDB's columnstore keeps `double precision` as differences of bits, which tells a changed decimal in
-- seven bytes. Of a domain it makes a dictionary where that is shorter: sensors have few different values in a
-- thousand readings (docs/decisions/0009-store-editions.md). It is the same type otherwise, without a rewrite.
CREATE DOMAIN measurement AS double precision;
ALTER TABLE reading ALTER COLUMN value TYPE measurement, ALTER COLUMN raw TYPE measurement;
