"""Memory of a training step at every moment, from shapes alone: nothing is computed, no memory is allocated."""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from ...config import Config
from ...data import Dataset
from ...kernels.layout import to_layout
from ...models import Network
from ..build import build_network
from ..step import TrainState


@dataclass(frozen=True)
class MemoryUse:
    """Memory of a training step, in bytes.

    weights:      weights and running statistics, with the copies that abandoning a step needs
    gradients:    of the weights
    optimizer:    momentum, or Adam's two moments
    average:      moving average of the weights, where there is one
    batch:        samples and labels
    activations:  what forward allocated and is alive when it ends: what it saves for backward, and the logits
    peak:         the most that is alive at once, including whatever of the above is there at that moment
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    batch: int
    activations: int
    peak: int

    @property
    def persistent(self) -> int:
        """What is there between two steps, whatever the batch."""
        return self.weights + self.gradients + self.optimizer + self.average


class MemoryTracker(TorchDispatchMode):
    """Counts the bytes of all storages that are allocated while the mode is active.

    alive:  bytes of all storages that exist now
    peak:   the most that existed at once, since it was last set
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.tracked: dict[int, tuple[Any, int]] = {}  # storage address -> (weak reference, bytes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1  # for any number that is read (a loss, a norm, a step count): all of them are finite and not 0
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.track(tensor)
        return out

    def track(self, tensor: Tensor) -> None:
        """Count a tensor's storage, if it is a new one."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.tracked:
            return
        self.tracked[key] = weakref.ref(storage, lambda _: self.untrack(key)), storage.nbytes()
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)

    def untrack(self, key: int) -> None:
        self.alive -= self.tracked.pop(key)[1]


class FakeTrainState(TrainState):
    """A TrainState of fake tensors: the same steps, without numbers."""

    def build_net(self) -> Network:
        with _disable_current_modes(), torch.device("meta"):  # fake modules can't be converted to channels last
            net = build_network(self.config, self.data)
        return net._apply(lambda t: torch.empty_strided(t.size(), t.stride(), dtype=t.dtype, device=self.device))

    def copy_net(self) -> Network:
        return self.build_net()


class MemoryEstimator:
    """Memory of a config's training steps, for any batch size.

    data:    its samples have the right shape; their values don't matter
    Raises:  ValueError for samples that the network can't take, or a precision that the device doesn't have
    """

    def __init__(self, config: Config, data: Dataset, device: torch.device):
        self.config, self.device, self.shape = config, device, sample_shape(config, data)
        self.num_classes = len(data.class_names)
        self.fake_mode, self.tracker = FakeTensorMode(), MemoryTracker()
        self.alive_at_forward: list[int] = []  # bytes before a forward pass and after it
        with self.fake_mode, self.tracker:
            self.state = FakeTrainState(config, data, device)
            # float16's loss scaler would need real numbers; only the few bytes of its own are not counted
            self.state.scaler = torch.amp.GradScaler(device.type, enabled=False)
            for group in self.state.optimizer.param_groups:  # as the optimiser would choose for real tensors
                group["foreach"] = device.type == "cuda"
            self.state.net.register_forward_pre_hook(lambda *_: self.alive_at_forward.append(self.tracker.alive))
            self.state.net.register_forward_hook(lambda *_: self.alive_at_forward.append(self.tracker.alive))
        # the first step of a run takes less: there are no gradients yet and no state of the optimiser
        self.step(config.optim.batch, packing=config.memory.packing, checkpointing=config.memory.checkpointing)

    def step(self, batch: int, *, packing: bool, checkpointing: Any) -> MemoryUse:
        """Memory of a step with a batch of this size."""
        state, net = self.state, self.state.net
        net.packing, net.checkpointing = packing, checkpointing
        self.alive_at_forward.clear()
        with self.fake_mode, self.tracker:
            samples, labels = random_batch(self.config, self.shape, self.num_classes, batch, self.device)
            self.tracker.peak = self.tracker.alive
            state.step(samples, labels)
        optimizer_buffers = [x for buffers in state.optimizer.state.values() for x in buffers.values() if isinstance(x, Tensor)]
        return MemoryUse(
            weights=storage_bytes([*net.parameters(), *net.buffers(), *state.buffers.copies]),
            gradients=storage_bytes([weight.grad for weight in net.parameters() if weight.grad is not None]),
            optimizer=storage_bytes(optimizer_buffers),
            average=storage_bytes(list(state.ema_net.state_dict().values())) if state.ema_net is not None else 0,
            batch=storage_bytes([samples, labels]),
            activations=self.alive_at_forward[1] - self.alive_at_forward[0],
            peak=self.tracker.peak,
        )


def storage_bytes(tensors: list[Tensor]) -> int:
    """Bytes of the tensors' storages, each counted once."""
    return sum({x.untyped_storage()._cdata: x.untyped_storage().nbytes() for x in tensors}.values())


def sample_shape(config: Config, data: Dataset) -> tuple[int, ...]:
    """[C, H, W] of an image, or [T, C, H, W] of a recording, with the frames that random temporal delete leaves."""
    shape, num_frames = data.sample(0).shape, config.data.temporal_delete
    return (num_frames, *shape[1:]) if num_frames else shape


def random_batch(
    config: Config, shape: tuple[int, ...], num_classes: int, batch: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Random samples as a network takes them, and labels; under MixUp or CutMix shares of the classes."""
    sizes = (shape[0], batch, *shape[1:]) if len(shape) == 4 else (batch, *shape)
    samples = to_layout(torch.rand(sizes, device=device), channels_last=True)
    if config.data.mixup or config.data.cutmix:
        return samples, torch.full((batch, num_classes), 1 / num_classes, device=device)
    return samples, torch.arange(batch, device=device) % num_classes
