"""The ways to the API, each of which knows whether a byte of a request can have left."""
