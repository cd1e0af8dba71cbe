"""The wire format as bytes, text and values.  No I/O."""
