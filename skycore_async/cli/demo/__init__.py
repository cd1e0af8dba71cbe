"""`skycore demo`: the cases that it plays, the bulk send after them, and the audit."""
