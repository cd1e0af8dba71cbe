"""Transports to the API; each knows whether a byte of a request can have left."""
