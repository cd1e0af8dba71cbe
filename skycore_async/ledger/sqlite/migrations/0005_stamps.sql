-- Whether a word on being sent to has the provider's stamp, or the time at which it came.
ALTER TABLE opt_outs ADD COLUMN stamped INTEGER NOT NULL DEFAULT 0;
