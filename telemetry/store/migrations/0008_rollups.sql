-- Rollups by the hour and by the day: telemetry.store.rollups makes `reading_1h` and `reading_1d`, as the
-- edition of the database has them.
-- What a metric's readings are: the catalogue is copied here at every migration. Of increments a rollup has a sum.
ALTER TABLE metric ADD COLUMN kind text NOT NULL DEFAULT 'instant'
    CHECK (kind IN ('instant', 'mean', 'counter', 'increment'));
