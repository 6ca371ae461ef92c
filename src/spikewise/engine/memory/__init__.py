"""Memory of a training step, foretold."""
