"""Memory of a training step: what it will take, what is free, and what to do when it runs out."""
