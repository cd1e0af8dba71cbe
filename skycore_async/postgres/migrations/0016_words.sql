-- The word to send a doubt once more, in the place of its key: when the attempt began that it is for.
-- It is the campaign's whose chunk has it, and not that of whoever has the key as well.
ALTER TABLE skycore.chunks ADD COLUMN resends double precision[];
UPDATE skycore.chunks SET resends = words FROM (
    SELECT chunks.id AS chunk, array_agg(started_at ORDER BY place) AS words
    FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
        CROSS JOIN unnest(keys) WITH ORDINALITY AS row (key, place)
        LEFT JOIN skycore.messages
            ON messages.key = row.key AND messages.state = 'in_doubt' AND settled_by = 'resend'
    WHERE chunks.state <> 'done' AND campaigns.state <> 'cancelled'
    GROUP BY chunks.id HAVING count(started_at) > 0) AS given
WHERE chunks.id = chunk;
UPDATE skycore.messages SET settled_by = NULL WHERE settled_by = 'resend';
