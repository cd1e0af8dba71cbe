"""Rate limits: who may send when, for one process or for many."""
