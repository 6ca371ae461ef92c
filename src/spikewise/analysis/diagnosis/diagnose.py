"""What is wrong with a network that does not learn: which block is sick, how that shows, and what to change."""

import torch
from torch import Tensor

from ...config import Config
from ...models.network import Network
from ..initial import measure
from .activity import Shown, dead_channels, overflowing, saturated, silent, time_unused
from .finding import TRAINED, Finding, steps_trained
from .given import frozen, not_finite, odd_weights, other_than_built, run_away, wrong_input
from .learning import gradients, never_left, one_sided, other_classes, settings, unreached
from .norms import estimates, neglected


def diagnose(
    net: Network, images: Tensor, labels: Tensor, config: Config | None = None, *, steps_of_run: int = 0
) -> list[Finding]:
    """Examine a network on one batch; nothing found: it looks healthy. The network is left as it was.

    Rates are those of evaluation if the network was trained, of training if not: untrained estimates say nothing.

    Shapes:        images [N, C, H, W] or frames [T, N, C, H, W]; labels [N]
    config:        of the run, if there is one; labels are the data's own, then
    steps_of_run:  training steps that it says it took
    Raises:        ValueError for a network that does not spike
    """
    if not net.spiking:
        raise ValueError("a ReLU network has none of these diseases; give a spiking one")
    steps = steps_trained(net)
    trained = steps >= TRAINED
    found = not_finite(net) or wrong_input(images, trained=trained)
    if found:
        return found  # all else would be nonsense
    shown = Shown(net, images, training=not trained)
    found = overflowing(shown)
    if found:
        return found
    # causes first
    found += other_than_built(net) + odd_weights(net)
    found += neglected(net, steps) or (estimates(net, images) if trained else [])
    quiet = silent(net, shown)
    found += quiet + dead_channels(net, shown) + saturated(net, shown) + time_unused(shown, images)
    still = frozen(net)
    faults = still or gradients(net, measure(net, images, labels), shown)
    found += faults
    if not quiet and not still and not any(fault.where == "head" for fault in faults):
        found += unreached(net, images, labels)
    found += never_left(net, shown, steps, quiet=bool(quiet)) + run_away(net)
    if trained:
        found += one_sided(net, images)
    if config is not None:
        found += settings(net, config) + (other_classes(net, images, labels) if trained else [])
    if steps_of_run and not steps:
        said = f"the run took {steps_of_run:,} steps, the weights' norms have seen no batch"
        found.append(Finding("weights of an untrained network", "network", said, "take the run's own checkpoint"))
    return found


def random_labels(net: Network, images: Tensor) -> Tensor:
    """Labels for samples that brought none."""
    samples = len(images) if images.dim() == 4 else images.shape[1]
    return torch.arange(samples, device=images.device) % net.num_classes


__all__ = ["Finding", "diagnose", "random_labels", "settings"]
