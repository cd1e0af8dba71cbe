-- In what order messages were begun, which no clock tells that is set back: what is begun again
-- gets a turn after all that was begun by then, and nothing else has one.
ALTER TABLE skycore.messages ADD COLUMN turn bigint;
ALTER TABLE skycore.attempts ADD COLUMN turn bigint;
-- Of what was begun again before this, clocks alone tell when.  They do where it was more than a day
-- after what has a later id: no clock is taken to be wrong by more.
UPDATE skycore.messages SET turn = last * 1073741824 + place FROM (
    SELECT id, started_at, max(id) OVER by_time AS last, row_number() OVER by_time AS place,
        min(started_at) OVER (
            ORDER BY id ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS later
    FROM skycore.messages WINDOW by_time AS (ORDER BY started_at, id)
) AS placed WHERE placed.id = messages.id AND later < placed.started_at - 86400;
