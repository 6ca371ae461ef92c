"""Memory of a training step at every moment, from shapes alone: nothing is computed, no memory is allocated."""

import weakref
from collections.abc import Sequence
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
from ..distributed import World
from ..shards import GradientSum
from ..step import Shard, TrainState


@dataclass(frozen=True)
class MemoryUse:
    """Memory of a training step, in bytes.

    weights:      weights and running statistics, with the copies that abandoning a step needs
    gradients:    of the weights
    terms:        gradients of the shards of this process, kept until they are added; 0 where the batch is one shard
    optimizer:    momentum, or Adam's two moments
    average:      moving average of the weights, where there is one
    batch:        samples and labels of this process
    activations:  what forward allocated and is alive when it ends: what it saves for backward, and the logits
    peak:         the most that is alive at once, including whatever of the above is there at that moment
    """

    weights: int
    gradients: int
    terms: int
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


class SilentWorld(World):
    """Processes of which only this one is there: messages take memory, and nobody answers."""

    def max(self, x: Tensor) -> Tensor:
        return x

    def sum(self, x: Tensor) -> Tensor:
        return x

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        pass


class FakeTrainState(TrainState):
    """A TrainState of fake tensors: the same steps, without numbers."""

    def build_net(self) -> Network:
        with _disable_current_modes(), torch.device("meta"):  # fake modules can't be converted to channels last
            net = build_network(self.config, self.data)
        return net._apply(lambda t: torch.empty_strided(t.size(), t.stride(), dtype=t.dtype, device=self.device))

    def copy_net(self) -> Network:
        return self.build_net()

    def differentiate_together(
        self, shards: list[Shard], sums: GradientSum, scores: Tensor, *, probing: bool
    ) -> tuple[str, Any]:
        """Shards with joint norms as one batch, which keeps as much for backward, with gradients for each of them: fake tensors
        would not be seen in the threads of the shards.
        """
        (samples, labels), count = shards[0], shards_of(self.config, self.world)
        before, others = [p.grad for p in sums.parameters], dict[Tensor, list[Tensor | None]]()

        def add_others(p: Tensor) -> None:
            others[p] = [torch.empty_like(p) for _ in range(count - 1)]

        hooks = [p.register_post_accumulate_grad_hook(add_others) for p in sums.parameters]
        super().differentiate(samples, labels)
        for hook in hooks:
            hook.remove()
        sums.add([p.grad for p in sums.parameters], 1.0)
        for number in range(count - 1):
            sums.add([others[p][number] for p in sums.parameters], 1.0)
        for p, gradient in zip(sums.parameters, before, strict=True):  # there until the new mean is
            p.grad = gradient
        return "", None

    def exchange(self, sums: GradientSum, scores: Tensor, problem: str, shards: list[Shard]) -> Tensor:
        """The same tensors; without the decisions, which need numbers."""
        gradients = sums.finish(sums.largest(), 1.0)
        for p, gradient in zip(sums.parameters, gradients, strict=True):
            p.grad = gradient
        return scores


def shards_of(config: Config, world: World) -> int:
    """How many shards of a step rank 0 computes: no process has more."""
    return -(-config.optim.shards // world.size)


class MemoryEstimator:
    """Memory of a config's training steps in one process, for any batch size.

    data:       its samples have the right shape; their values don't matter
    processes:  how many share the shards of a step
    Raises:     ValueError for samples that the network can't take, or a precision that the device doesn't have
    """

    def __init__(self, config: Config, data: Dataset, device: torch.device, processes: int = 1):
        self.config, self.device, self.shape = config, device, sample_shape(config, data)
        self.num_classes = len(data.class_names)
        self.fake_mode, self.tracker = FakeTensorMode(), MemoryTracker()
        self.alive_at_forward: list[int] = []  # bytes before a forward pass and after it
        with self.fake_mode, self.tracker:
            self.state = FakeTrainState(config, data, device, world=SilentWorld(size=processes))
            # float16's loss scaler would need real numbers; only the few bytes of its own are not counted
            self.state.scaler = torch.amp.GradScaler(device.type, enabled=False)
            for group in self.state.optimizer.param_groups:  # as the optimiser would choose for real tensors
                group["foreach"] = device.type == "cuda"
            self.state.net.register_forward_pre_hook(lambda *_: self.alive_at_forward.append(self.tracker.alive))
            self.state.net.register_forward_hook(lambda *_: self.alive_at_forward.append(self.tracker.alive))
        # the first step of a run takes less: there are no gradients yet and no state of the optimiser
        self.step(config.optim.batch, packing=config.memory.packing, checkpointing=config.memory.checkpointing)

    def step(self, batch: int, *, packing: bool, checkpointing: Any) -> MemoryUse:
        """Memory of a step with a batch of this size, a multiple of `optim.shards`."""
        state, net, optim = self.state, self.state.net, self.config.optim
        net.packing, net.checkpointing = packing, checkpointing
        self.alive_at_forward.clear()
        count = shards_of(self.config, state.world)
        parts, samples = (1, count * batch // optim.shards) if state.joint_norms else (count, batch // optim.shards)
        with self.fake_mode, self.tracker:
            shards = [random_batch(self.config, self.shape, self.num_classes, samples, self.device) for _ in range(parts)]
            self.tracker.peak = self.tracker.alive
            state.step_shards(shards)
        optimizer_buffers = [x for buffers in state.optimizer.state.values() for x in buffers.values() if isinstance(x, Tensor)]
        gradients = storage_bytes([weight.grad for weight in net.parameters() if weight.grad is not None])
        kept = 0 if optim.shards == 1 else count if optim.gradient_sum == "exact" else 1
        return MemoryUse(
            weights=storage_bytes([*net.parameters(), *net.buffers(), *state.buffers.copies, *state.first_shard.copies]),
            gradients=gradients,
            terms=kept * gradients,
            optimizer=storage_bytes(optimizer_buffers),
            average=storage_bytes(list(state.ema_net.state_dict().values())) if state.ema_net is not None else 0,
            batch=storage_bytes([tensor for shard in shards for tensor in shard]),
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
