"""Roads: ways to get a request out and its answer back."""
