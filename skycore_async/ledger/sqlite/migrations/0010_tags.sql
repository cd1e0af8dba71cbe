-- What a message is listed by: its campaign, how many segments its text takes, and its tags, as
-- JSON.  Of messages that were before this version they are not known.
ALTER TABLE messages ADD COLUMN campaign_ref TEXT;
ALTER TABLE messages ADD COLUMN segments INTEGER;
ALTER TABLE messages ADD COLUMN tags TEXT;
