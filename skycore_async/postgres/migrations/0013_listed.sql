-- Between which times sending reports listed what may be a doubt's: one about less is no proof.
ALTER TABLE skycore.messages
    ADD COLUMN listed_since double precision,
    ADD COLUMN listed_until double precision;
