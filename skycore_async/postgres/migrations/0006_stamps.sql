-- Whether a word on being sent to has the provider's stamp, or the time at which it came.
ALTER TABLE skycore.opt_outs ADD COLUMN stamped boolean NOT NULL DEFAULT false;
