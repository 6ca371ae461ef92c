"""Convolution and batch norm: layers whose output is a current."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..kernels import NormParams
from ..kernels.reference import norm_stats, scale_and_shift
from ..kernels.spike_conv import spike_conv
from .calls import buffers_kept, is_plain, is_recomputing
from .spiking_layer import framewise
from .stream_state import NeuronStates
from .threshold_norm import ThresholdNorm2d


class SpikeConv(nn.Conv2d):
    """nn.Conv2d, by the convolution of `kernels`; square windows. (A bias is there once batch norm is folded.)"""

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype != self.weight.dtype and not torch.is_autocast_enabled(input.device.type):
            raise ValueError(f"given {input.dtype}, but the weights are {self.weight.dtype}; use .to(...) or autocast")
        usual = self.groups == 1 and self.dilation == (1, 1) and self.padding_mode == "zeros" and self.bias is None
        if not usual or len({*self.stride}) > 1 or len({*self.padding}) > 1:
            return super().forward(input)
        return spike_conv(input, self.weight, self.stride[0], int(self.padding[0]))


class NormGroup(Protocol):
    """Batches whose batch norms take their statistics over all of them: here one of them meets the others.

    moves_statistics:  whether this one moves the running statistics
    """

    moves_statistics: bool

    def combine(self, norm: nn.Module, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor, int | Tensor]:
        """Mean and biased variance [C] over all batches, given those of this one and the values per channel they are of;
        gradients flow through them to all batches.
        """


class ConvNorm(nn.Module):
    """Convolution and batch norm: a current, no spikes.

    Shapes:  x [T, N, C, H, W] or [N, C, H, W] -> the same with `out_channels`, and H, W divided by `stride`, rounded up
    kernel_size:  in pixels; the padding is kernel_size // 2, which keeps the size where it is odd
    conv, norm:   the parts, an nn.Conv2d without bias and an nn.BatchNorm2d, or what you put in their place
    """

    conv_class = nn.Conv2d
    norm: Any  # a batch norm, or what a user put in its place
    norm_group: NormGroup | None = None  # while the norm takes its statistics over more than what the layer is given

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1):
        super().__init__()
        self.conv = self.conv_class(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        return self.normalize(framewise(self.conv, x))

    def normalize(self, y: Tensor) -> Tensor:
        """What `norm` makes of every frame of y."""
        if self.norm.training and isinstance(self.norm, nn.modules.batchnorm._BatchNorm):
            if self.norm_group is not None:
                return self.normalize_in_group(y, self.norm_group)
            require_batch_norm_size(y)
        with buffers_kept(self.norm.modules()):
            return framewise(self.norm, y)

    def normalize_in_group(self, y: Tensor, group: NormGroup) -> Tensor:
        """What the norm, a usual one, makes of y with the statistics of all batches of the group."""
        mean, variance, count = group.combine(self.norm, *norm_stats(y, y.dim() - 3), y.numel() // y.shape[-3])
        self.move_running_stats(mean, variance, count)
        scale, shift, _ = scale_and_shift(norm_params(self.norm)._replace(mean=mean, variance=variance))
        return (y.to(scale.dtype) * scale[:, None, None] + shift[:, None, None]).to(y.dtype)

    def move_running_stats(self, mean: Tensor, variance: Tensor, count: int | Tensor) -> None:
        """Once per step: not where activations are computed again, and by one batch of a group."""
        if not is_recomputing() and (self.norm_group is None or self.norm_group.moves_statistics):
            update_running_stats(self.norm, mean, variance, count)


def norm_params(norm: nn.BatchNorm2d | ThresholdNorm2d) -> NormParams:
    """What a kernel must know of a usual norm, but its statistics."""
    weight = norm.scaled_weight if isinstance(norm, ThresholdNorm2d) else norm.weight
    return NormParams(weight, norm.bias, norm.eps)


def is_usual_norm(norm: nn.Module) -> bool:
    """Whether a norm is one of ours, as built and seen by nobody, so that others may compute what it would."""
    ours = is_plain(norm, nn.BatchNorm2d) or is_plain(norm, ThresholdNorm2d)
    return ours and norm.affine and norm.track_running_stats and norm.momentum is not None  # type: ignore[return-value]


class SpikeConvNorm(ConvNorm):
    """The same, of spikes."""

    conv_class = SpikeConv


class ConvNormReLU(ConvNorm):
    """Convolution, batch norm, and a rectifier: the layer of the ReLU twins. `current` is added before it."""

    def forward(self, x: Tensor, states: NeuronStates | None = None, *, current: Tensor | None = None) -> Tensor:
        y = self.normalize(framewise(self.conv, x))
        return torch.relu(y if current is None else y + current)


@torch.no_grad()
def update_running_stats(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int | Tensor) -> None:
    """Move the running statistics by `momentum` towards this batch's; the running variance is the unbiased one."""
    running_mean, running_var, batches, momentum = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
    assert running_mean is not None and running_var is not None and batches is not None and momentum is not None
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    batches.add_(1)


def require_batch_norm_size(y: Tensor) -> None:
    if y.numel() // y.shape[-3] < 2:
        raise ValueError(
            f"batch norm in training needs at least 2 values per channel, given {list(y.shape)}; "
            "use a larger batch or image, or net.eval()"
        )
