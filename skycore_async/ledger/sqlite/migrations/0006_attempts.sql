-- What a sending report is held against: the text as a report shows it, as a digest; when an
-- attempt had ended, where nobody was left to say so; and the provider's id of the sending.
ALTER TABLE messages ADD COLUMN text_digest BLOB;
ALTER TABLE messages ADD COLUMN interrupted_at REAL;
ALTER TABLE messages ADD COLUMN untaken INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN history_id TEXT;
ALTER TABLE events ADD COLUMN history_id TEXT;
-- The attempts that were in doubt when their messages were begun again.  Of those that were
-- before this version no times are known.
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES messages,
    text_digest BLOB,
    recipient TEXT NOT NULL,
    sender TEXT,
    started_at REAL NOT NULL,
    ended_at REAL NOT NULL,
    history_id TEXT,
    state TEXT NOT NULL
);
CREATE INDEX attempts_by_message ON attempts (message);
INSERT INTO attempts (message, recipient, sender, started_at, ended_at, state)
SELECT id, recipient, sender, 0, started_at, 'in_doubt' FROM messages WHERE doubted ORDER BY id;
-- When the provider was asked for a sending report, and whether it refused for being asked too
-- often.
CREATE TABLE look_ups (
    asked_at REAL NOT NULL,
    refused INTEGER NOT NULL
);
