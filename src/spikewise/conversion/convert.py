"""A trained ReLU network as a spiking one."""

from torch import Tensor

from ..models.network import Network
from .balance import balance_thresholds
from .twin import with_thresholds


def convert_ann(
    net: Network,
    samples: Tensor,
    method: str = "percentile",
    *,
    percentile: float | None = None,
    steps: int | None = None,
    T: int = 256,
    soft_reset: bool = True,
) -> Network:
    """A trained ReLU ResNet as a spiking network of IF neurons, whose firing rates are its activations, clipped at thresholds.

    net:     a ReLU ResNet of `build_model`, without max pooling (`pool="avg"`, or `stem="3x3"`); it is left as it is
    samples, method, percentile, steps:  on what and how thresholds are balanced, as of `balance_thresholds`
    T, soft_reset:                       of the spiking network, as of `with_thresholds`
    Returns: a `converted_resnet...` in evaluation mode, with the same input_spec; `save_pretrained` keeps it, `spikewise train
             --weights` trains it on
    Raises:  ValueError as `balance_thresholds`: what cannot be converted is named
    Source:  E18

    The same network and samples give the same thresholds, on the same machine.
    """
    thresholds = balance_thresholds(net, samples, method, percentile=percentile, steps=steps, soft_reset=soft_reset)
    return with_thresholds(net, thresholds, T=T, soft_reset=soft_reset)
