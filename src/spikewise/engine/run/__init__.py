"""The folder of a run, and what is never torn."""
