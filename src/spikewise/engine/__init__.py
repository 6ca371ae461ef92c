"""Training: from a config to a run folder, and the evaluation of runs."""
