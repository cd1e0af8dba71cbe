-- When a campaign may begin; NULL for at once.
ALTER TABLE skycore.campaigns ADD COLUMN starts_at timestamptz;
