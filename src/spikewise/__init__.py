"""spikewise: train, understand and deploy very deep residual spiking networks."""

__version__ = "0.1.0"
