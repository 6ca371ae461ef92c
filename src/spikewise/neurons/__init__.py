"""Spiking neurons: coefficients of one recurrence, or a step of their own.

Public: the kinds of neurons and their table NEURONS, by which networks and the command line name them; `Neuron`, the class that
kinds of your own derive from, with `coefficients`, `step`, `initial_state`, `spike`, `reset_membrane`, `v_rest`, `fire` and a
call; `StateCell`, in which a stream hands a layer its state; `heaviside`, the firing step with a surrogate's slope.
docs/own_networks.md shows how they are used.
"""

from ..kernels.surrogate import heaviside
from .kinds import ALIF, CUBA, IF, LIF, NEURONS, PLIF, STDB, AdaptiveState, SpikeTimeState, SynapticState, neuron_kind
from .neuron import Neuron, StateCell

__all__ = [
    "ALIF",
    "CUBA",
    "IF",
    "LIF",
    "NEURONS",
    "PLIF",
    "STDB",
    "AdaptiveState",
    "Neuron",
    "SpikeTimeState",
    "StateCell",
    "SynapticState",
    "heaviside",
    "neuron_kind",
]
