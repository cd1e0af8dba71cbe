"""Small helpers that every other folder may use; they use none of the other folders."""
