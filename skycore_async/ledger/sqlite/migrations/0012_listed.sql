-- Between which times sending reports listed what may be a doubt's: one about less is no proof.
ALTER TABLE messages ADD COLUMN listed_since REAL;
ALTER TABLE messages ADD COLUMN listed_until REAL;
