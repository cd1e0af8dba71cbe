-- A ledger of {count} messages: nine in ten delivered, the others failed, accepted, refused and not
-- sent, and each that ended with its receipt.  Tracking ids come in no order.
BEGIN;
CREATE TEMP TABLE made AS
WITH RECURSIVE counted(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counted WHERE n + 1 < {count})
SELECT n, 1 || (2000000000 + n * 7919 % 7999999993) AS number,
    printf('SMS_%08x', (n * 2654435761) % 4294967296) AS tracking,
    CASE WHEN n % 100 < 90 THEN 'delivered' WHEN n % 100 < 95 THEN 'failed'
        WHEN n % 100 < 97 THEN 'accepted' WHEN n % 100 < 99 THEN 'rejected' ELSE 'not_sent' END
        AS state,
    1.7e9 + n / 100.0 AS began
FROM counted;
INSERT INTO messages (key, content, recipient, sender, state, started_at, ended_at, tracking_id,
    plain_id, code, raw, reason, text_digest)
SELECT printf('order-%09d', n), randomblob(17), number, '60856', state, began, began + 0.1,
    CASE WHEN n % 100 < 97 THEN tracking END, CASE WHEN n % 100 < 97 THEN tracking END,
    CASE state WHEN 'rejected' THEN 'E110' END,
    json_object('STATUS', 'Success', 'TRACKINGID', tracking, 'TO', number),
    CASE state WHEN 'failed' THEN 'expired' END, randomblob(16)
FROM made;
INSERT INTO submissions SELECT tracking, n + 1, number FROM made WHERE n % 100 < 97 ORDER BY 1;
INSERT INTO events (identity, tracking_id, recipient, sender, at, happened, received, state, reason,
    raw)
SELECT CAST(printf('%016d', n) AS BLOB), tracking, number, '60856', began + 3 + n % 17,
    began + 3 + n % 17, began + 30, state, CASE state WHEN 'failed' THEN 'expired' END,
    json_object(
        'ORIGIN', 'SMS_MT', 'CODE', CASE state WHEN 'failed' THEN 'E202' ELSE 'N202' END,
        'STATUS', CASE state WHEN 'failed' THEN 'Message Sent/Expired'
            ELSE 'Message Sent/Delivered' END,
        'FROM', '60856', 'TO', number, 'TRACKINGID', tracking,
        'SPID', CAST(310000 + n % 7 AS TEXT), 'AGGREGATORID', '4', 'TIMESTAMP',
        strftime('%Y-%m-%dT%H:%M:%f', began + 3 + n % 17, 'unixepoch') || '+00:00')
FROM made WHERE state IN ('delivered', 'failed');
DELETE FROM counts;
INSERT INTO counts
SELECT state, CASE WHEN state = 'rejected' THEN coalesce(code, '') ELSE '' END,
    coalesce(reason, ''), coalesce(settled_by, ''), count(*)
FROM messages GROUP BY 1, 2, 3, 4;
COMMIT;
