-- Until when messages were begun that were pruned, where any were; and what stands in place of a
-- key, or of a tracking id, as `ledger/pruning.py` makes it.
CREATE TABLE skycore.pruned (
    until double precision NOT NULL
);
CREATE FUNCTION skycore.pruned_name(name text) RETURNS text LANGUAGE sql STABLE AS
$$SELECT 'pruned:' || left(encode(sha256(convert_to(name, 'UTF8')), 'hex'), 32)$$;
-- Texts from handsets are found without the receipts.
CREATE INDEX events_without_id ON skycore.events (received) WHERE tracking_id IS NULL;
