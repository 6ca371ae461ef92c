"""The run folder: config, environment, metrics and checkpoints of one training."""
