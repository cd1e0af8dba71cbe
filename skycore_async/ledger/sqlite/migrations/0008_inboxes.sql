-- Which ledger this is, which an inbox beside it names; and up to which of its postbacks each
-- inbox was taken in.
CREATE TABLE identity (ledger BLOB NOT NULL);
INSERT INTO identity VALUES (randomblob(16));
CREATE TABLE inboxes (
    identity BLOB PRIMARY KEY,
    taken INTEGER NOT NULL
) WITHOUT ROWID;
