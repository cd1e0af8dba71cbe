-- The same four tables as in PostgreSQL: what the provider knows by a tracking id is a
-- row of its own, which an answer or a postback writes, whichever comes first.
ALTER TABLE messages RENAME COLUMN began TO started_at;
ALTER TABLE messages RENAME COLUMN ended TO ended_at;
CREATE TABLE submissions (
    tracking_id TEXT PRIMARY KEY,
    message INTEGER REFERENCES messages,
    recipient TEXT
) WITHOUT ROWID;
INSERT INTO submissions
SELECT tracking_id, max(id), recipient FROM messages
WHERE tracking_id IS NOT NULL GROUP BY tracking_id;
INSERT OR IGNORE INTO submissions
SELECT tracking_id, NULL, max(recipient) FROM events
WHERE tracking_id IS NOT NULL GROUP BY tracking_id;
CREATE INDEX unmatched ON submissions (recipient) WHERE message IS NULL;
DROP INDEX messages_by_tracking_id;
CREATE TABLE notifications (
    id INTEGER PRIMARY KEY,
    identity BLOB NOT NULL UNIQUE,
    tracking_id TEXT,
    recipient TEXT,
    sender TEXT,
    at REAL,
    happened REAL NOT NULL,
    state TEXT,
    reason TEXT,
    raw TEXT NOT NULL
);
INSERT INTO notifications
SELECT id, identity, tracking_id, recipient, sender, at, happened, state, reason, raw
FROM events ORDER BY id;
DROP TABLE events;
ALTER TABLE notifications RENAME TO events;
CREATE INDEX events_by_tracking_id ON events (tracking_id) WHERE tracking_id IS NOT NULL;
