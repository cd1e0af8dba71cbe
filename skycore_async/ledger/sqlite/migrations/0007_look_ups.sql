-- For how many seconds the provider, or the rules in its place, then wanted not to be asked again.
ALTER TABLE look_ups ADD COLUMN retry_after REAL NOT NULL DEFAULT 0;
