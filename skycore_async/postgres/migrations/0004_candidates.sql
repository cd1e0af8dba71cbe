-- What may have a submission that is not known is found by the last five digits of its
-- number, with or without a country code; the time of arrival counts as well as the stamp.
DROP INDEX skycore.undecided;
DROP INDEX skycore.unmatched;
CREATE INDEX candidates ON skycore.messages (right(recipient, 5))
WHERE state IN ('sending', 'in_doubt') OR doubted;
CREATE INDEX unmatched ON skycore.submissions (right(recipient, 5)) WHERE message IS NULL;
ALTER TABLE skycore.events ADD COLUMN received double precision NOT NULL DEFAULT 0;
UPDATE skycore.events SET received = happened;
