"""Rate limits: when each message may start, for one process or for many."""
