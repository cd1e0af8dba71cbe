-- In what order messages were begun, which no clock tells that is set back: what is begun again
-- gets a turn after all that was begun by then, and nothing else has one.
ALTER TABLE messages ADD COLUMN turn INTEGER;
ALTER TABLE attempts ADD COLUMN turn INTEGER;
CREATE INDEX turns ON messages (turn) WHERE turn IS NOT NULL;
-- Of what was begun again before this, clocks alone tell when.  They do where it was more than a day
-- after what has a later id: no clock is taken to be wrong by more.
CREATE TEMP TABLE placed (id INTEGER PRIMARY KEY, turn INTEGER);
INSERT INTO placed SELECT id, last * 1073741824 + place FROM (
    SELECT id, started_at, max(id) OVER by_time AS last, row_number() OVER by_time AS place,
        min(started_at) OVER (
            ORDER BY id ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS later
    FROM messages WINDOW by_time AS (ORDER BY started_at, id)
) WHERE later < started_at - 86400;
UPDATE messages SET turn = (SELECT turn FROM placed WHERE placed.id = messages.id)
WHERE id IN (SELECT id FROM placed);
DROP TABLE placed;
