"""Spiking neurons: coefficients of one recurrence."""

from .kinds import IF, LIF, NEURONS, PLIF
from .neuron import Neuron, StateCell

__all__ = ["IF", "LIF", "NEURONS", "PLIF", "Neuron", "StateCell"]
