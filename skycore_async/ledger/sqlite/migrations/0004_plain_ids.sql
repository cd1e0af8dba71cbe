-- Tracking ids are compared by their plain form: `spellings` has that of each id which is in
-- another.  What the provider knows by two spellings is one submission.
ALTER TABLE messages ADD COLUMN plain_id TEXT;
UPDATE messages SET plain_id = coalesce(
    (SELECT plain FROM spellings WHERE spellings.tracking_id = messages.tracking_id), tracking_id)
WHERE tracking_id IS NOT NULL;
INSERT INTO submissions (tracking_id, message, recipient)
SELECT plain, max(message), max(recipient) FROM spellings JOIN submissions USING (tracking_id)
WHERE true GROUP BY plain
ON CONFLICT (tracking_id) DO UPDATE SET
    message = nullif(max(coalesce(message, 0), coalesce(excluded.message, 0)), 0),
    recipient = coalesce(recipient, excluded.recipient);
DELETE FROM submissions WHERE tracking_id IN (SELECT tracking_id FROM spellings);
UPDATE events SET tracking_id =
    (SELECT plain FROM spellings WHERE spellings.tracking_id = events.tracking_id)
WHERE tracking_id IN (SELECT tracking_id FROM spellings);
-- Their messages are brought up to their notifications, as `settlement.progress_by` says.
UPDATE messages SET
    state = coalesce(
        (SELECT state FROM events WHERE tracking_id = plain_id
            AND events.state IN ('delivered', 'failed')
            ORDER BY at IS NULL, at, state = 'failed', identity LIMIT 1),
        (SELECT state FROM events WHERE tracking_id = plain_id AND events.state = 'sent' LIMIT 1),
        'accepted'),
    reason =
        (SELECT reason FROM events WHERE tracking_id = plain_id
            AND events.state IN ('delivered', 'failed')
            ORDER BY at IS NULL, at, state = 'failed', identity LIMIT 1)
WHERE state IN ('accepted', 'sent', 'delivered', 'failed')
    AND plain_id IN (SELECT plain FROM spellings)
    AND id IN (SELECT message FROM submissions WHERE submissions.tracking_id = plain_id);
DROP TABLE spellings;
