"""Learning: from a config to a run folder, and what it reached."""
