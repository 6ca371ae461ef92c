"""Where a network first computes NaN or infinity, and a way back to the state before."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..models import Network
from ..models.layers import ConvNorm
from ..models.residual import Block
from ..neurons import Neuron

NOT_LOCATED = "outputs and gradients of all blocks are finite when computed again"


class BufferSnapshot:
    """A copy of a network's buffers (the running statistics of its norms), to restore when a step is abandoned."""

    def __init__(self, net: nn.Module):
        self.buffers = list(net.buffers())
        self.copies = [buffer.clone() for buffer in self.buffers]

    def save(self) -> None:
        copy_all(self.copies, self.buffers)

    def restore(self) -> None:
        copy_all(self.buffers, self.copies)


@torch.no_grad()
def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy each source into its target, of the same type: all of one type at once, as PyTorch copies a mixture one by one."""
    for dtype in {source.dtype for source in sources}:
        chosen = [number for number, source in enumerate(sources) if source.dtype == dtype]
        torch._foreach_copy_([targets[number] for number in chosen], [sources[number] for number in chosen])


def locate_non_finite(net: Network, samples: Tensor, labels: Tensor, loss: Callable[..., Tensor]) -> str:
    """Where these samples first give NaN or infinity, in words.

    Dataset and weights are checked first, then the outputs of layers and blocks in the order of depth, then the gradients in
    the order of backward. The network's running statistics change: restore them afterwards.
    """
    if not is_finite(samples):
        return "the samples themselves are not finite"
    for name, parameter in net.named_parameters():
        if not is_finite(parameter):
            return f"the weight {name!r} was not finite before this step"
    for name, module in net.named_modules():
        if isinstance(module, Neuron) and (holds := module.threshold_holds()) is not None and not holds:
            return f"the learned threshold '{name}.v_th' was not above the resting potential before this step"
    outputs: list[tuple[str, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda _module, _args, out, name=name: outputs.append((name, out)))
        for name, module in net.named_modules()
        if isinstance(module, ConvNorm | Block) or module is net.head
    ]
    try:
        logits = net(samples)
    finally:
        for hook in hooks:
            hook.remove()
    for name, output in outputs:
        if not is_finite(output):
            return f"the first output that is not finite is that of {name!r}"
    grads = torch.autograd.grad(loss(logits, labels), [output for _, output in outputs], allow_unused=True)
    for (name, _), grad in reversed(list(zip(outputs, grads, strict=True))):
        if grad is not None and not is_finite(grad):
            return f"all outputs are finite, but the gradient at the output of {name!r} is not"
    return NOT_LOCATED


def is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
