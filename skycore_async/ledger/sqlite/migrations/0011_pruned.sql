-- Until when messages were begun that were pruned, where any were; and whether what these had may
-- still stand in the free space of the file.
CREATE TABLE pruned (
    until REAL NOT NULL,
    to_rewrite INTEGER NOT NULL
);
