-- What becomes of a message as a rule changes no column that an index has, so that the database
-- writes its row anew beside the old one and leaves the indexes alone (a HOT update). For that its
-- page has room for an outcome and a receipt.
DROP INDEX skycore.candidates;
ALTER TABLE skycore.messages SET (fillfactor = 45);
ALTER TABLE skycore.messages ADD COLUMN uncertain boolean NOT NULL
    GENERATED ALWAYS AS (state = 'in_doubt' OR doubted) STORED;
CREATE INDEX candidates ON skycore.messages (right(recipient, 5)) WHERE uncertain;
-- What is under way is found by who sends it: its session has the number of its oldest attempt
-- that may be, NULL where there is none.
ALTER TABLE skycore.sessions ADD COLUMN oldest_attempt bigint;
CREATE INDEX messages_by_attempt ON skycore.messages (session, attempt);
-- Nobody is alive while this is run, so that whatever was under way is in doubt.
UPDATE skycore.messages
SET state = 'in_doubt', interrupted_at = extract(epoch FROM clock_timestamp())
WHERE state = 'sending';
