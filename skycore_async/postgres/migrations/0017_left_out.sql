-- The name that the code has for it: how many messages a worker left out, by why.
ALTER TABLE skycore.chunks RENAME COLUMN tally TO left_out;
