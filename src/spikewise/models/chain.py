"""Networks without shortcuts, written as the paper's Tab. 5 writes them: c128k3s1-BN-PLIF-MPk2s2, ..., FC11."""

import re
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers import ConvNormFire, Fire, MaxPool, NeuronFactory, SpikeConv, build_pool, framewise, pool_framewise
from .network import Network, scaled_channels
from .stream_state import NeuronStates

WORD = re.compile(r"(c|MP|AP|FC|DP|PLIF|LIF|IF)(\d+)?(?:k(\d+))?(?:s(\d+))?")
NEURONS = ("PLIF", "LIF", "IF")
DROPOUT = 0.5


class Word(NamedTuple):
    """A layer in the paper's notation; 0 where it says no number."""

    kind: str
    size: int
    kernel: int
    stride: int
    norm: bool  # batch norm and neurons follow


class ChainNet(Network):
    """Convolutions, pooling and fully connected layers one after another, and a mean over time.

    Shapes:      frames [T, N, C, S, S] with S = `image_size` -> logits [N, num_classes]
    layers:      c: convolution of so many channels, kernel k, stride s, padded to keep the size; BN with neurons behind it;
                 MP, AP: max and average pooling, whose stride is the kernel where it says none; DP: dropout of a half; FC:
                 fully connected, here a convolution over all that is left; {...}*n repeats. The last FC is of the classes.
                 Where neurons follow it, APk averages k of them for each class: a vote
    width:       channels, and sizes of FCs but the last, as a multiple
    Source:      Fang et al. 2021, Tab. 5, rows 2 and 4
    """

    def __init__(
        self,
        layers: str,
        *,
        num_classes: int,
        T: int,
        in_channels: int = 2,
        neuron: NeuronFactory,
        image_size: int = 128,
        width: float = 1.0,
    ):
        super().__init__(in_channels=in_channels, num_classes=num_classes, T=T, spiking=True)
        self.image_size = self.min_image_size = image_size
        self.layers, *body = nn.ModuleList(), *parse_layers(layers)
        votes = body.pop().kernel if body[-1].kind == "AP" else 1
        last = max(place for place, word in enumerate(body) if word.kind == "FC")
        channels, side = in_channels, image_size
        for place, word in enumerate(body[:last] if votes == 1 else body):
            if word.kind in ("c", "FC"):
                size = votes * num_classes if place == last else scaled_channels(word.size, width)
                self.layers.append(self.convolution(word, channels, size, side, neuron))
                channels, side = size, 1 if word.kind == "FC" else side // (word.stride or 1)
            elif word.kind in ("MP", "AP"):
                stride = word.stride or word.kernel
                if self.layers and isinstance(self.layers[-1], ConvNormFire):
                    self.layers[-1].emit_planes = False  # the pooling behind it does
                self.layers.append(build_pool("max" if word.kind == "MP" else "avg", word.kernel, stride, 0, neuron))
                side //= stride
            else:
                self.layers.append(Fire(neuron) if word.kind in NEURONS else TimeDropout(DROPOUT))
        self.num_features = channels * side * side
        self.fc: nn.Module = Vote(votes, num_classes) if votes > 1 else nn.Linear(self.num_features, num_classes, bias=False)
        self.assign_state_keys()

    @staticmethod
    def convolution(word: Word, channels: int, size: int, side: int, neuron: NeuronFactory) -> nn.Module:
        if word.norm:
            return ConvNormFire(channels, size, word.kernel, word.stride or 1, neuron=neuron)
        if word.kind == "FC":
            return SpikeConv(channels, size, side, bias=False)
        return SpikeConv(channels, size, word.kernel, word.stride or 1, word.kernel // 2, bias=False)

    @property
    def stages(self) -> list[nn.Module]:
        """The layers with neurons."""
        return [layer for layer in self.layers if isinstance(layer, ConvNormFire | Fire)]

    def check_input(self, x: Tensor, dims: tuple[int, ...]) -> None:
        super().check_input(x, dims)
        side = self.image_size
        if tuple(x.shape[-2:]) != (side, side) or (x.dim() == 4 and 5 in dims):
            raise ValueError(f"given {list(x.shape)}; this network takes frames [T, N, {self.in_channels}, {side}, {side}]")

    def forward_features(self, x: Tensor, states: NeuronStates | None, taken: dict[int, Tensor]) -> Tensor:
        stage = 0
        for layer in self.layers:
            if isinstance(layer, (nn.AvgPool2d, MaxPool)):
                x = pool_framewise(layer, x)
            elif isinstance(layer, nn.Conv2d):
                x = framewise(layer, x)
            else:
                x = self.forward_stage([layer], x, states)
            if isinstance(layer, (ConvNormFire, Fire)):
                stage += 1
                if stage in taken:
                    taken[stage] = x
        return x.flatten(2)


class TimeDropout(nn.Module):
    """Dropout whose mask is held over time: an element is dropped at every step, or at none.

    Shapes:  [T, N, ...] -> the same; in evaluation, unchanged
    p:       probability of being dropped, 0 <= p < 1; what is kept is divided by 1 - p
    Source:  Fang et al. 2021 (ICCV), Incorporating Learnable Membrane Time Constant, sec. 4
    """

    def __init__(self, p: float = DROPOUT):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p={p!r} is out of range; use 0 or more, below 1")
        self.p = p

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = torch.rand(x.shape[1:], device=x.device) >= self.p
        return x * (keep.to(x.dtype) / (1 - self.p))

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


class Vote(nn.Module):
    """The mean of so many features for each class: [N, voters * num_classes] -> [N, num_classes]."""

    def __init__(self, voters: int, out_features: int):
        super().__init__()
        self.voters, self.out_features = voters, out_features

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.out_features, self.voters)).mean(2)

    def extra_repr(self) -> str:
        return f"voters={self.voters}, out_features={self.out_features}"


def parse_layers(text: str) -> list[Word]:
    """The layers of a network in the paper's notation.

    Raises:  ValueError that names the word which is none
    """
    plain = re.sub(r"\{([^}]*)\}\*(\d+)", lambda found: "-".join([found[1]] * int(found[2])), text)
    words: list[Word] = []
    for word in plain.split("-"):
        if word == "BN" and words and words[-1].kind == "c":
            words[-1] = words[-1]._replace(norm=True)
        elif found := WORD.fullmatch(word):
            kind, size, kernel, stride = found.groups(default="0")
            if not (kind in NEURONS and words and words[-1].norm):  # these neurons are the convolution's
                words.append(Word(kind, int(size), int(kernel), int(stride), norm=False))
        else:
            known = "c128k3s1, BN behind it, PLIF, LIF, IF, MPk2, APk2, DP, FC10"
            raise ValueError(f"layer {word!r} of {text!r} is unknown; use {known}")
    return words
