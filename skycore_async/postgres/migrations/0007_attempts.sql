-- What a sending report is held against: the text as a report shows it, as a digest; when an
-- attempt had ended, where nobody was left to say so; and the provider's id of the sending.
ALTER TABLE skycore.messages
    ADD COLUMN text_digest bytea,
    ADD COLUMN interrupted_at double precision,
    ADD COLUMN untaken boolean NOT NULL DEFAULT false,
    ADD COLUMN history_id text;
ALTER TABLE skycore.events ADD COLUMN history_id text;
-- The attempts that were in doubt when their messages were begun again.  Of those that were
-- before this version no times are known.
CREATE TABLE skycore.attempts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message bigint NOT NULL,
    text_digest bytea,
    recipient text NOT NULL,
    sender text,
    started_at double precision NOT NULL,
    ended_at double precision NOT NULL,
    history_id text,
    state text NOT NULL
);
CREATE INDEX attempts_by_message ON skycore.attempts (message);
INSERT INTO skycore.attempts (message, recipient, sender, started_at, ended_at, state)
SELECT id, recipient, sender, 0, started_at, 'in_doubt' FROM skycore.messages WHERE doubted
ORDER BY id;
-- When the provider was asked for a sending report, and whether it refused for being asked too
-- often.
CREATE TABLE skycore.look_ups (
    asked_at double precision NOT NULL,
    refused boolean NOT NULL
);
