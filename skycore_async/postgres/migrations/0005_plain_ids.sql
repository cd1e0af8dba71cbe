-- Tracking ids are compared by their plain form, which `protocol/tracking_ids.py` explains:
-- `spellings` has that of each id which is in another.  What the provider knows by two
-- spellings is one submission.
CREATE TEMP TABLE spellings ON COMMIT DROP AS
WITH given AS (
    SELECT tracking_id, rtrim(tracking_id, '=') AS bare FROM (
        SELECT tracking_id FROM skycore.submissions
        UNION SELECT tracking_id FROM skycore.messages
        UNION SELECT tracking_id FROM skycore.events
    ) AS ids WHERE tracking_id IS NOT NULL
), decoded AS (
    SELECT tracking_id, bare, CASE
        WHEN tracking_id ~ '^[A-Za-z0-9+/]+={0,2}$' AND length(bare) % 4 <> 1
        THEN encode(decode(rpad(bare, (length(bare) + 3) / 4 * 4, '='), 'base64'), 'escape')
    END AS form
    FROM given
), forms AS (
    SELECT tracking_id, CASE
        WHEN form ~ '^[A-Z]+_[0-9]+$' AND bare = rtrim(
            translate(encode(convert_to(form, 'UTF8'), 'base64'), E'\n', ''), '=')
        THEN form ELSE tracking_id
    END AS form
    FROM decoded
), plainly AS (
    SELECT tracking_id, CASE
        WHEN length(form) <= 200 THEN form
        ELSE 'sha256:' || encode(sha256(convert_to(form, 'UTF8')), 'hex')
    END AS plain
    FROM forms
)
SELECT tracking_id, plain FROM plainly WHERE plain <> tracking_id;
ALTER TABLE skycore.messages ADD COLUMN plain_id text COLLATE "C";
UPDATE skycore.messages SET plain_id = coalesce(
    (SELECT plain FROM spellings WHERE spellings.tracking_id = messages.tracking_id), tracking_id)
WHERE tracking_id IS NOT NULL;
INSERT INTO skycore.submissions AS known (tracking_id, message, recipient)
SELECT plain, max(message), max(recipient)
FROM spellings JOIN skycore.submissions USING (tracking_id) GROUP BY plain
ON CONFLICT (tracking_id) DO UPDATE SET
    message = greatest(known.message, excluded.message),
    recipient = coalesce(known.recipient, excluded.recipient);
DELETE FROM skycore.submissions USING spellings
WHERE submissions.tracking_id = spellings.tracking_id;
UPDATE skycore.events SET tracking_id = plain FROM spellings
WHERE events.tracking_id = spellings.tracking_id;
-- Their messages are brought up to their notifications, as `settlement.progress_by` says.
UPDATE skycore.messages SET
    state = coalesce(
        (SELECT events.state FROM skycore.events WHERE events.tracking_id = plain_id
            AND events.state IN ('delivered', 'failed')
            ORDER BY at NULLS LAST, events.state = 'failed', identity LIMIT 1),
        (SELECT events.state FROM skycore.events WHERE events.tracking_id = plain_id
            AND events.state = 'sent' LIMIT 1),
        'accepted'),
    reason =
        (SELECT events.reason FROM skycore.events WHERE events.tracking_id = plain_id
            AND events.state IN ('delivered', 'failed')
            ORDER BY at NULLS LAST, events.state = 'failed', identity LIMIT 1)
WHERE state IN ('accepted', 'sent', 'delivered', 'failed')
    AND plain_id IN (SELECT plain FROM spellings)
    AND id IN (SELECT message FROM skycore.submissions WHERE submissions.tracking_id = plain_id);
DROP TABLE spellings;
