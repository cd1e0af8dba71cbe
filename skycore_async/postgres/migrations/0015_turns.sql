-- In what order messages were begun, which no clock tells that is set back: what is begun again
-- gets a turn after all that was begun by then, and nothing else has one.
ALTER TABLE skycore.messages ADD COLUMN turn bigint;
ALTER TABLE skycore.attempts ADD COLUMN turn bigint;
