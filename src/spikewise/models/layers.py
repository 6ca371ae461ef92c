"""The layers all networks are made of: a convolution, its batch norm, and what fires behind them."""

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn

from ..neurons import Neuron
from .stream import Carry

Connect = Callable[[Tensor, Tensor], Tensor]
NeuronFactory = Callable[[], Neuron]


def over_time(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a stateless module to every frame at once: [T, N, ...] is seen as [T*N, ...] (no copy); [N, ...] as it is."""
    if x.dim() == 4:
        return module(x)
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class ConvNorm(nn.Module):
    """Convolution and batch norm: a current, no spikes.

    Shapes:  x [T, N, C, H, W] or [N, C, H, W] -> the same with `out_channels`, and H, W divided by `stride`
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        y = over_time(self.conv, x)
        if self.training:
            require_two_values(y)
        return over_time(self.norm, y)


class ConvNormReLU(ConvNorm):
    """Convolution, batch norm, and a rectifier: the layer of the ReLU twins. `current` is added before it."""

    def forward(self, x: Tensor, carry: Carry | None = None, *, current: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        return torch.relu(y if current is None else y + current)


class ConvNormFire(ConvNorm):
    """Convolution, batch norm, spiking neurons, and the connection with the shortcut: all of a block's last layer.

    Shapes:    x [T, N, C, H, W] -> spikes [T, N, C', H', W']; or a still image x [N, C, H, W], convolved and normalised
               once and read `repeat` times
    connect:   g of E6, a function of (a, s); None where no shortcut arrives
    shortcut:  s of E6 [T, N, C', H', W'], connected after the neurons (SEW)
    current:   added before the neurons (the shortcut of a Spiking block, E8)
    observe:   called with the spikes before they are connected, when set (see probe.py)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        neuron: NeuronFactory,
        connect: Connect | None = None,
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.neuron, self.connect = neuron(), connect
        self.name = ""  # set by the network: the key of this layer's membrane in a stream's state
        self.observe: Callable[[Tensor], None] | None = None

    def forward(
        self,
        x: Tensor,
        carry: Carry | None = None,
        *,
        shortcut: Tensor | None = None,
        current: Tensor | None = None,
        repeat: int = 0,
    ) -> Tensor:
        y = over_time(self.conv, x)
        scale, shift = scale_and_shift(self.norm, y, self.neuron.kernels)
        connect = self.connect if self.observe is None else None
        out, v = self.neuron.kernels.norm_fire(
            y,
            scale,
            shift,
            self.neuron.dynamics(),
            shortcut=shortcut,
            connect=connect,
            current=current,
            v=None if carry is None else carry.take(self.name, y.shape[-4:], torch.promote_types(y.dtype, torch.float32)),
            repeat=repeat,
        )
        if carry is not None:
            carry.keep(self.name, v)
        if self.observe is not None:
            self.observe(out)
            out = out if self.connect is None or shortcut is None else self.connect(out, shortcut)
        return out


def scale_and_shift(norm: nn.BatchNorm2d, y: Tensor, kernels: ModuleType) -> tuple[Tensor, Tensor]:
    """Batch norm as one multiplication and one addition per channel: [C], [C]. In training, the running estimates move.

    y:  what the norm will be applied to, [..., C, H, W]
    """
    mean, variance = norm.running_mean, norm.running_var
    if norm.training:
        require_two_values(y)
        mean, variance = kernels.norm_stats(y, channel_axis=y.dim() - 3)
        move_running_estimates(norm, mean.detach(), variance.detach(), y.numel() // y.shape[-3])
    assert mean is not None and variance is not None, "our norms always track running estimates"
    dtype = torch.promote_types(mean.dtype, torch.float32)
    scale = norm.weight.to(dtype) * torch.rsqrt(variance.to(dtype) + norm.eps)
    return scale, norm.bias.to(dtype) - mean.to(dtype) * scale


@torch.no_grad()
def move_running_estimates(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running estimates by `momentum` towards this batch's; the running variance is the unbiased one."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None, "our norms move by a fixed momentum"
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
    norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), norm.momentum)
    norm.num_batches_tracked.add_(1)


def require_two_values(y: Tensor) -> None:
    if y.numel() // y.shape[-3] < 2:
        raise ValueError(
            f"batch norm in training needs at least 2 values per channel, given {list(y.shape)}; "
            "use a larger batch or image, or net.eval()"
        )
