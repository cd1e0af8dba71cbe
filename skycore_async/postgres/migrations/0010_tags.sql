-- What a message is listed by: its campaign, how many segments its text takes, and its tags, as
-- JSON.  Of messages that were before this version they are not known.
ALTER TABLE skycore.messages ADD COLUMN campaign_ref text;
ALTER TABLE skycore.messages ADD COLUMN segments integer;
ALTER TABLE skycore.messages ADD COLUMN tags text;
