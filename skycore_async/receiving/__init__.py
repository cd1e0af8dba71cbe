"""The caller's postback URL."""
