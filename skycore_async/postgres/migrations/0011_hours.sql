-- Within which hours a campaign is sent, as 09:00-20:00 with the time zone of numbers that tell
-- none; NULL for at any time.  And how many messages of a chunk wait for their hours.
ALTER TABLE skycore.campaigns ADD COLUMN hours text;
ALTER TABLE skycore.campaigns ADD COLUMN zone text;
ALTER TABLE skycore.chunks ADD COLUMN put_off integer NOT NULL DEFAULT 0;
