-- Exports that the API was asked for: one process at a time works on one, below its data folder.
CREATE TABLE export_job (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    selection    jsonb NOT NULL,                 -- api.exports.selection, with its end
    state        text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    finished_at  timestamptz,
    expires_at   timestamptz,                    -- set with finished_at
    worker       text,                           -- who has it
    leased_until timestamptz,                    -- after this another may go on with it
    tries        integer NOT NULL DEFAULT 0,     -- begun or gone on with
    share        real NOT NULL DEFAULT 0,        -- done, from 0 to 1
    rows         bigint NOT NULL DEFAULT 0,
    bytes        bigint,
    sha256       text,
    error        text
);
CREATE INDEX export_job_open ON export_job (requested_at) WHERE state IN ('waiting', 'running');
