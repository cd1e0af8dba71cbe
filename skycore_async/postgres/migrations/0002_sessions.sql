-- The names that the tables in SQLite have, and plain words for what is PostgreSQL's alone.
ALTER TABLE skycore.messages RENAME COLUMN began TO started_at;
ALTER TABLE skycore.messages RENAME COLUMN ended TO ended_at;
ALTER TABLE skycore.messages RENAME COLUMN holder TO session;
ALTER INDEX skycore.strays RENAME TO unmatched;
ALTER TABLE skycore.holders RENAME TO sessions;
ALTER TABLE skycore.paces RENAME TO shared_rates;
ALTER TABLE skycore.chunks RENAME COLUMN holder TO worker;
-- How many messages in a row got no clear answer, over all workers of a campaign.
ALTER TABLE skycore.campaigns ADD COLUMN stuck integer NOT NULL DEFAULT 0;
-- Nothing of a campaign is sent before this time.
ALTER TABLE skycore.campaigns ADD COLUMN starts_at timestamptz;
