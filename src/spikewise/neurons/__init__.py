"""Spiking neurons: coefficients of one recurrence, or a step of their own."""

from ..kernels.surrogate import heaviside
from .kinds import IF, LIF, NEURONS, PLIF
from .neuron import Neuron, StateCell

__all__ = ["IF", "LIF", "NEURONS", "PLIF", "Neuron", "StateCell", "heaviside"]
