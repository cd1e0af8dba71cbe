-- Where all tables are published, as for logical replication, a row is changed only where it can be
-- told to whoever subscribes which one it was: these tables have no key that says so.
ALTER TABLE skycore.version REPLICA IDENTITY FULL;
ALTER TABLE skycore.pruned REPLICA IDENTITY FULL;
ALTER TABLE skycore.look_ups REPLICA IDENTITY FULL;
