"""A training step that, when memory runs out, says which batch would fit."""

import math

import torch
from torch import Tensor

from ...models import Network
from ..build import autocast
from ..errors import BatchTooLargeError
from ..loss import cross_entropy
from ..non_finite import BufferSnapshot
from ..step import Shard, TrainState
from .free import free_memory


def step_or_oom_hint(state: TrainState, shards: list[Shard]) -> float:
    """A step of training, but BatchTooLargeError in place of an out-of-memory error."""
    try:
        return state.step(*shards[0]) if len(shards) == 1 else state.step_shards(shards)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if not shards:
        raise BatchTooLargeError("out of memory, though this process has no sample of this batch; start fewer processes here")
    samples, labels = shards[0]
    state.optimizer.zero_grad(set_to_none=True)
    if state.device.type == "cuda":
        torch.cuda.empty_cache()
    precision = state.config.optim.precision
    or_bfloat16 = "" if precision != "float32" else ", or --optim.precision bfloat16"
    if len(labels) == 1:
        raise BatchTooLargeError(
            f"out of memory at a batch of one sample; try a smaller network or fewer time steps{or_bfloat16}"
        )
    try:
        with autocast(precision, state.device):
            max_batch = estimate_max_batch(state.net, samples, labels, free_memory(state.device))
        max_batch = min(max_batch, max(1, len(labels) // 2))
    except (RuntimeError, MemoryError):  # not even memory for a few samples
        max_batch = 1
    count = state.config.optim.shards
    parts = f" in each of {count} shards" if count > 1 else ""
    raise BatchTooLargeError(
        f"out of memory at a batch of {len(labels)}{parts}: about {max_batch} would fit; try --optim.batch {max_batch * count} "
        f"(the learning rate scales with it){or_bfloat16}"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and ("not enough memory" in message or "can't allocate memory" in message)


def estimate_max_batch(net: Network, samples: Tensor, labels: Tensor, free: int) -> int:
    """The largest batch whose activations take less than 80 % of `free` bytes, from those of one or two samples."""
    num_samples = min(2, len(labels))
    few = samples[:num_samples] if samples.dim() == 4 else samples[:, :num_samples]
    saved: dict[int, int] = {}  # bytes by address

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    buffers = BufferSnapshot(net)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        cross_entropy(net(few), labels[:num_samples])
    buffers.restore()
    weights = sum(p.untyped_storage().nbytes() for p in net.parameters())
    per_sample = max(1, sum(saved.values()) - weights) / num_samples
    return max(1, math.floor(0.8 * free / per_sample))
