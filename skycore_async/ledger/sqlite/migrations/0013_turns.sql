-- In what order messages were begun, which no clock tells that is set back: what is begun again
-- gets a turn after all that was begun by then, and nothing else has one.
ALTER TABLE messages ADD COLUMN turn INTEGER;
ALTER TABLE attempts ADD COLUMN turn INTEGER;
CREATE INDEX turns ON messages (turn) WHERE turn IS NOT NULL;
