-- The names that the tables in SQLite have, and plain words for what is PostgreSQL's alone.
ALTER TABLE skycore.messages RENAME COLUMN began TO started_at;
ALTER TABLE skycore.messages RENAME COLUMN ended TO ended_at;
ALTER TABLE skycore.messages RENAME COLUMN holder TO session;
ALTER INDEX skycore.strays RENAME TO unmatched;
ALTER TABLE skycore.holders RENAME TO sessions;
ALTER TABLE skycore.paces RENAME TO shared_rates;
ALTER TABLE skycore.chunks RENAME COLUMN holder TO worker;
-- How many of a campaign's messages in a row are in doubt, over all workers.
ALTER TABLE skycore.campaigns ADD COLUMN in_doubt_in_a_row integer NOT NULL DEFAULT 0;
