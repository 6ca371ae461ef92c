"""How many bytes are alive at every moment of a training step, from shapes alone: nothing is computed, no memory is taken."""

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from ...config import Config
from ...data import Dataset
from ...models import Network
from ..build import build_network
from ..loader import channels_last
from ..step import Training


@dataclass(frozen=True)
class Bytes:
    """What a training step takes, in bytes.

    weights:    weights and running estimates, with the copies that a step which is given up needs
    gradients:  of the weights
    optimizer:  momentum, or Adam's two moments
    average:    the moving average of the weights, where there is one
    batch:      samples and labels
    kept:       what is alive when forward ends and was not before: what it keeps for backward, and the logits
    peak:       the most that is alive at once, with all of the above that is there at that moment
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    batch: int
    kept: int
    peak: int

    @property
    def lasting(self) -> int:
        """What is there between two steps, whatever the batch."""
        return self.weights + self.gradients + self.optimizer + self.average


class Ledger(TorchDispatchMode):
    """Notes every new storage, and when it goes. What C kernels allocate for themselves, sums over a few channels, is left out.

    alive:  bytes of all storages that are there now
    peak:   the most that were there at once, since it was last set
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.noted: dict[int, tuple[Any, int]] = {}  # by the storage's address: a weak reference to it, and its bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1  # for any number that is read: a loss, a norm, the count of steps, all of them finite and not 0
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.note(tensor)
        return out

    def note(self, tensor: Tensor) -> None:
        """Add the bytes of a tensor's storage, if it is a new one."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.noted:
            return
        self.noted[key] = weakref.ref(storage, lambda _: self.forget(key)), storage.nbytes()
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)

    def forget(self, key: int) -> None:
        self.alive -= self.noted.pop(key)[1]


class Imagined(Training):
    """A training of fake tensors: the same steps, without numbers."""

    def built(self) -> Network:
        with _disable_current_modes(), torch.device("meta"):  # a module of fake tensors can't be brought channels last
            net = build_network(self.config, self.data)
        for module in net.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    module._parameters[name] = nn.Parameter(fresh(weight, self.device))
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = fresh(buffer, self.device)
        return net

    def copied(self) -> Network:
        return self.built()


def fresh(like: Tensor, device: torch.device) -> Tensor:
    """A tensor of the same layout on the device."""
    return torch.empty_strided(like.size(), like.stride(), dtype=like.dtype, device=device)


class Imagination:
    """A config's training steps of any batch, counted in bytes.

    data:    what `sample` gives has the shape of the samples
    Raises:  ValueError for samples that the network can't take, or a precision that the device hasn't
    """

    def __init__(self, config: Config, data: Dataset, device: torch.device):
        self.config, self.device, self.shape = config, device, shape_of_sample(config, data)
        self.classes = len(data.class_names)
        self.ledger = Ledger()
        self.forwards: list[int] = []  # bytes alive before a forward pass and behind it
        with self.thinking():
            self.training = Imagined(config, data, device)
            # of float16's scaler only a few numbers are left out, which decide what fake tensors can't tell
            self.training.scaler = torch.amp.GradScaler(device.type, enabled=False)
            net, optimizer = self.training.net, self.training.optimizer
            for group in optimizer.param_groups:  # as the optimiser would choose for real tensors
                group["foreach"] = device.type == "cuda"
            net.register_forward_pre_hook(lambda *_: self.forwards.append(self.ledger.alive))
            net.register_forward_hook(lambda *_: self.forwards.append(self.ledger.alive))
        # the first step of a run takes less: neither gradients nor the optimiser's state are there
        self.step(config.optim.batch, packing=config.memory.packing, checkpointing=config.memory.checkpointing)

    @contextlib.contextmanager
    def thinking(self) -> Iterator[None]:
        if not hasattr(self, "fake"):
            self.fake = FakeTensorMode()
        with self.fake, self.ledger:
            yield

    def step(self, batch: int, *, packing: bool, checkpointing: Any) -> Bytes:
        """What a step with so many samples takes."""
        training = self.training
        training.net.packing, training.net.checkpointing = packing, checkpointing
        self.forwards.clear()
        with self.thinking():
            samples, labels = random_batch(self.config, self.shape, self.classes, batch, self.device)
            self.ledger.peak = self.ledger.alive
            training.step(samples, labels)
        net = training.net
        grads = [weight.grad for weight in net.parameters() if weight.grad is not None]
        states = [x for state in training.optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
        average = list(training.average.net.state_dict().values()) if training.average else []
        return Bytes(
            weights=storages([*net.parameters(), *net.buffers(), *training.statistics.copies]),
            gradients=storages(grads),
            optimizer=storages(states),
            average=storages(average),
            batch=storages([samples, labels]),
            kept=self.forwards[1] - self.forwards[0],
            peak=self.ledger.peak,
        )


def storages(tensors: list[Tensor]) -> int:
    """Bytes of the tensors' storages, each once."""
    return sum({x.untyped_storage()._cdata: x.untyped_storage().nbytes() for x in tensors}.values())


def shape_of_sample(config: Config, data: Dataset) -> tuple[int, ...]:
    """[C, H, W] of an image, or [T, C, H, W] of a recording's frames: those that random temporal delete leaves."""
    shape, how = data.sample(0).shape, config.data
    return (how.temporal_delete, *shape[1:]) if how.temporal_delete else shape


def random_batch(
    config: Config, shape: tuple[int, ...], classes: int, batch: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Dataset as a network takes them and their labels; under MixUp or CutMix shares of the classes."""
    sizes = (shape[0], batch, *shape[1:]) if len(shape) == 4 else (batch, *shape)
    samples = channels_last(torch.rand(sizes, device=device))
    if config.data.mixup or config.data.cutmix:
        return samples, torch.full((batch, classes), 1 / classes, device=device)
    return samples, torch.arange(batch, device=device) % classes
