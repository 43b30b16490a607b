-- ---------------------------------------------------------------- network servers' messages, many in a row
-- A frame's message is kept beside the others of its batch: compressed together they take a fourteenth.
CREATE TABLE message_block (
    first_id bigint NOT NULL,                    -- of the uplinks in it, whose ids lie in one thousand
    time     timestamptz NOT NULL,               -- newest arrival in it
    messages bytea NOT NULL                      -- packed by telemetry.store.messages
);
CREATE INDEX message_block_first ON message_block (first_id);
ALTER TABLE message_block ALTER COLUMN messages SET STORAGE EXTERNAL;
-- uplink.message stays for the frames that were stored with it before.
