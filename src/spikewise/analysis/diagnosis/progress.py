"""Whether a network, its norms and its branches have been trained."""

from torch import nn

from ...models.network import Network
from ..structure import last_neurons_name, owning_block

MIN_TRAINED_STEPS = 20  # after which a branch should have left the identity, and running statistics should have settled
MAX_ZERO_INIT_WEIGHT = 0.25  # of a norm that began at 0: below, it has learnt too little to bring its branch to fire


def is_identity_layer(net: Network, layer: str) -> bool:
    """Whether zero init, or nearly so, keeps this layer silent, and so makes its block the identity."""
    name = owning_block(net, layer)
    if name is None or layer != last_neurons_name(net, name):
        return False
    block = net.blocks[name]
    weight = getattr(block.last_norm, "weight", None)
    return block.identity_branch == 0 and weight is not None and bool((weight.abs() < MAX_ZERO_INIT_WEIGHT).all())


def batch_norms(net: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Batch norms that track running statistics, as all of ours do, by name."""
    norms = {name: module for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    return {name: norm for name, norm in norms.items() if norm.running_var is not None}


def batches_seen(norm: nn.BatchNorm2d) -> int:
    return 0 if norm.num_batches_tracked is None else int(norm.num_batches_tracked)


def is_initial(norm: nn.BatchNorm2d) -> bool:
    """Whether the running statistics are those of a new norm: mean 0, variance 1."""
    assert norm.running_mean is not None and norm.running_var is not None
    return not bool(norm.running_mean.any()) and bool((norm.running_var == 1).all())


def steps_trained(net: nn.Module) -> int:
    """Training steps that the norms counted; without counts, MIN_TRAINED_STEPS if most statistics have moved."""
    norms = batch_norms(net).values()
    steps = max(map(batches_seen, norms), default=0)
    if steps == 0 and sum(not is_initial(norm) for norm in norms) > len(norms) / 2:
        return MIN_TRAINED_STEPS
    return steps
