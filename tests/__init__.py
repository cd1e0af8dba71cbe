"""The tests: `unit` mirrors the package, the other folders say what they need."""
