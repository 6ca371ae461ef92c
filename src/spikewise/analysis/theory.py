"""What the paper's equations say of gradients, from firing rates."""

import math

import torch

from ..kernels.connect import CONNECT
from ..kernels.surrogate import SURROGATES
from ..models.layers import ConvNormFire
from ..models.residual import Block, SEWBlock, SpikingBlock


def slopes(v_th: float, surrogate: str = "atan", alpha: float = 2.0) -> tuple[float, float]:
    """The slope where a spike meets the threshold, and where none does: p = Theta'(1 - v_th), q = Theta'(0 - v_th).

    Source:  Eq. 12; of IF neurons that pass spikes on, one time step
    """
    u = torch.tensor([1 - v_th, 0 - v_th], dtype=torch.float64)
    p, q = SURROGATES[surrogate](u, alpha).tolist()
    return p, q


def product_of_slopes(spikes: torch.Tensor, k: int, p: float, q: float) -> torch.Tensor:
    """dO/dS of k Spiking blocks that are the identity, neuron by neuron: p^k where there is a spike, q^k where there is none.

    Source:  Eq. 8; exact for one time step, or for the last one: to earlier ones membranes bring gradients, too
    """
    return torch.where(spikes > 0, p**k, q**k)


def shrinkage(rate: float, k: int, p: float, q: float) -> float:
    """What k identity blocks of the Spiking kind make of a gradient's norm: ||dL/dS|| = ||dL/dO|| times this, in expectation.

    sqrt(rate p^(2 k) + (1 - rate) q^(2 k)), for a gradient that is independent of the spikes.
    Source:  Eq. 15 corrected: printed exponents are k, and the norm of a product is taken for the product of norms
    """
    return math.sqrt(rate * p ** (2 * k) + (1 - rate) * q ** (2 * k))


def printed_shrinkage(rate: float, k: int, p: float, q: float, n: int) -> float:
    """Eq. 15 as it is printed, for n neurons: sqrt(n rate p^k + n (1 - rate) q^k)."""
    return math.sqrt(n * rate * p**k + n * (1 - rate) * q**k)


def along_shortcut(block: Block, branch: float, output: float) -> float | None:
    """What the shortcut alone makes of a gradient's norm: ||dL/dS|| = ||dL/dO|| times this, in expectation.

    SEW ADD: 1 (Eq. 11). AND, O = A S: sqrt(rate of A). IAND, O = (1 - A) S: sqrt(1 - rate of A). Spiking: `shrinkage` of one
    block (Eq. 15 corrected), which takes the block for the identity. For gradients independent of the spikes; what comes
    through the branch adds to it.

    branch, output:  firing rates of A and O
    Returns:         None for blocks whose shortcut is a convolution, is not there, or whose connection is the user's own
    """
    if block.has_projection:
        return None
    if isinstance(block, SpikingBlock):
        assert isinstance(block.last_layer, ConvNormFire), "spiking blocks end in spiking layers"
        neuron = block.last_layer.neuron
        return shrinkage(min(output, 1.0), 1, *slopes(neuron.v_th, neuron.surrogate, neuron.alpha))
    if isinstance(block, SEWBlock):
        share = {CONNECT["ADD"]: 1.0, CONNECT["AND"]: branch, CONNECT["IAND"]: 1 - branch}.get(block.connect)
        return None if share is None else math.sqrt(share)
    return None
