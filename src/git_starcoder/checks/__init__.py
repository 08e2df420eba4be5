"""A shelf: every other file here is one of the checks."""
