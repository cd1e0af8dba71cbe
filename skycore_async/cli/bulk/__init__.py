"""`skycore bulk`: rows of a CSV file in, an estimate shown, messages sent."""
