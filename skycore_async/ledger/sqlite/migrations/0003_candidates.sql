-- What may have a submission that is not known is found by the last five digits of its
-- number, with or without a country code; the time of arrival counts as well as the stamp.
DROP INDEX undecided;
DROP INDEX unmatched;
CREATE INDEX candidates ON messages (substr(recipient, -5))
WHERE state IN ('sending', 'in_doubt') OR doubted;
CREATE INDEX unmatched ON submissions (substr(recipient, -5)) WHERE message IS NULL;
ALTER TABLE events ADD COLUMN received REAL NOT NULL DEFAULT 0;
UPDATE events SET received = happened;
