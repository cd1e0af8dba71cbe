-- The tables of version 1.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    content BLOB NOT NULL,
    recipient TEXT NOT NULL,
    sender TEXT,
    state TEXT NOT NULL,
    began REAL NOT NULL,
    ended REAL,
    tracking_id TEXT,
    code TEXT,
    info TEXT,
    http_status INTEGER,
    raw TEXT,
    reason TEXT,
    settled_by TEXT,
    doubted INTEGER
);
CREATE INDEX messages_by_tracking_id ON messages (tracking_id) WHERE tracking_id IS NOT NULL;
CREATE INDEX undecided ON messages (recipient) WHERE state IN ('sending', 'in_doubt');
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    identity BLOB NOT NULL UNIQUE,
    message INTEGER REFERENCES messages,
    tracking_id TEXT,
    recipient TEXT,
    sender TEXT,
    at REAL,
    happened REAL NOT NULL,
    state TEXT,
    reason TEXT,
    raw TEXT NOT NULL
);
CREATE INDEX events_by_message ON events (message) WHERE message IS NOT NULL;
CREATE INDEX unplaced ON events (tracking_id) WHERE message IS NULL AND tracking_id IS NOT NULL;
CREATE INDEX strays ON events (recipient) WHERE message IS NULL AND tracking_id IS NOT NULL;
CREATE TABLE opt_outs (
    number TEXT PRIMARY KEY,
    out INTEGER NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
