"""The paper's equations for gradients, from firing rates."""

import math

import torch

from ..kernels.surrogate import SURROGATES
from ..models.residual import Block
from ..neurons import Neuron
from .structure import connect_name


def slopes(v_th: float, surrogate: str = "atan", alpha: float = 2.0) -> tuple[float, float]:
    """Surrogate slopes p = Theta'(1 - v_th) where a spike meets the threshold, q = Theta'(0 - v_th) where none does.

    Source:  Eq. 12; for IF neurons that pass spikes on, one time step
    """
    u = torch.tensor([1 - v_th, 0 - v_th], dtype=torch.float64)
    p, q = SURROGATES[surrogate](u, alpha).tolist()
    return p, q


def slope_product(spikes: torch.Tensor, k: int, p: float, q: float) -> torch.Tensor:
    """dO/dS of k Spiking blocks that are the identity: p^k for neurons that spike, q^k for others.

    Source:  Eq. 8; exact for the last time step; earlier ones also get gradients through the membranes
    """
    return torch.where(spikes > 0, p**k, q**k)


def gradient_norm_ratio(rate: float, k: int, p: float, q: float) -> float:
    """Expected ||dL/dS|| / ||dL/dO|| of k Spiking blocks that are the identity.

    sqrt(rate p^(2 k) + (1 - rate) q^(2 k)), for a gradient that is independent of the spikes.
    Source:  Eq. 15 corrected: printed are exponents k, and the norm of a product as the product of norms
    """
    return math.sqrt(rate * p ** (2 * k) + (1 - rate) * q ** (2 * k))


def gradient_norm_ratio_as_printed(rate: float, k: int, p: float, q: float, n: int) -> float:
    """Eq. 15 as it is printed, for n neurons: sqrt(n rate p^k + n (1 - rate) q^k)."""
    return math.sqrt(n * rate * p**k + n * (1 - rate) * q**k)


def shortcut_gradient_ratio(block: Block, branch: float, output: float) -> float | None:
    """Expected ||dL/dS|| / ||dL/dO|| along a block's shortcut alone.

    SEW ADD, and blocks that meet as currents (E10): 1 (Eq. 11). AND, O = A S: sqrt(rate of A). IAND, O = (1 - A) S:
    sqrt(1 - rate of A). Spiking: `gradient_norm_ratio` of one block (Eq. 15 corrected), as if the block were the identity. For
    gradients independent of the spikes; what comes through the branch adds to it.

    branch, output:  firing rates of A and O
    Returns:         None where the shortcut is a convolution or missing, or the connection is the user's own function, or the
                     block does not say its last neurons
    """
    if block.has_projection:
        return None
    if block.meets == "currents":
        return 1.0
    if block.meets == "before":
        neuron = getattr(block.last_neurons, "neuron", block.last_neurons)
        if not isinstance(neuron, Neuron) or isinstance(neuron.v_th, torch.Tensor):
            return None
        return gradient_norm_ratio(min(output, 1.0), 1, *slopes(neuron.v_th, neuron.surrogate, neuron.alpha))
    passed = {"ADD": 1.0, "AND": branch, "IAND": 1 - branch}.get(connect_name(block) or "")
    return None if passed is None else math.sqrt(passed)
