-- How many messages there are of each kind, so that nobody reads them all to count them: kept by
-- whoever writes messages, in the same transaction.  What is not there is an empty text.
CREATE TABLE counts (
    state TEXT NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    settled_by TEXT NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (state, code, reason, settled_by)
) WITHOUT ROWID;
INSERT INTO counts
SELECT state, CASE WHEN state = 'rejected' THEN coalesce(code, '') ELSE '' END,
    coalesce(reason, ''), coalesce(settled_by, ''), count(*)
FROM messages GROUP BY 1, 2, 3, 4;
-- Texts from handsets, and the receipts that can be placed nowhere, are found without the others.
CREATE INDEX events_without_id ON events (state) WHERE tracking_id IS NULL;
