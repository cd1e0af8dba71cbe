-- How long a throttle answer pauses a shared rate, so that no clock that is set back makes it longer.
ALTER TABLE skycore.shared_rates ADD COLUMN pause double precision NOT NULL DEFAULT 0;
