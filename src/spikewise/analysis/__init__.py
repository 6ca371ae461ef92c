"""What a run folder tells: reads, never trains."""
