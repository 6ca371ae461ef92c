"""Shards whose batch norms see the whole batch: they advance together, and meet at every norm.

Each shard runs the network as it is, in a thread of its own; one runs at a time, up to its next norm, then the next shard.
Between two norms nothing of a shard depends on another one. At a norm there are only numbers per channel: each shard's mean
and variance, and in backward the gradients of the joint ones. They are exchanged as rows of a table, one row per shard, so
that every process has the same table, and computes the same from it: nothing depends on who computed which row.
"""

import copy
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ..models import Network
from ..models.calls import is_recomputing
from ..models.chain import TimeDropout
from ..models.conv_norm import is_usual_norm
from .distributed import ALONE, World

T = TypeVar("T")


class Stats(NamedTuple):
    """Mean and biased variance [C], and of how many values per channel."""

    mean: Tensor
    variance: Tensor
    values: int | Tensor


class Lockstep:
    """The shards of a step that this process computes, with norms over the shards of all processes.

    net:     the network; each shard has a copy of its modules, whose weights are those of the network, in the same memory, with
             gradients of their own. The first one's buffers are the network's
    shards:  how many shards a step has on all processes, at most
    world:   the processes that share them: shard s is with process s modulo their number
    """

    def __init__(self, net: Network, shards: int, world: World = ALONE):
        self.shards, self.world = shards, world
        self.copies = [share_weights(net, number) for number in range(-(-(shards - world.rank) // world.size))]
        self.channels: list[int] = []  # of each norm, in the order in which the network comes to them

    @property
    def first(self) -> Network:
        """The network of this process's first shard, whose norms move the running statistics."""
        return self.copies[0]

    def forward(self, batches: Sequence[T], run: Callable[[Network, T], Any]) -> list[Any]:
        """What `run` makes of each batch, a shard, with a network that has the weights and meets the others at every norm.

        Backward of all results has to be one call, on all processes.
        """
        exchange = Exchange(self.world, self.shards)
        try:
            return meet_at_norms(self.copies[: len(batches)], batches, run, exchange)
        finally:
            self.channels, exchange.before = exchange.channels, exchange.before.detach()

    def gradients(self, number: int) -> list[Tensor | None]:
        """Those of one shard, of the parameters that learn, after backward."""
        return [p.grad for p in self.copies[number].parameters() if p.requires_grad]

    def clear_gradients(self) -> None:
        for net in self.copies:
            net.zero_grad(set_to_none=True)

    def accompany(self, sample: Tensor) -> None:
        """Forward and backward of a process that has no shard of a small batch: the others' exchanges need it.

        sample:  any batch that the network takes; asked for its norms where this process has not yet seen them
        """
        if not self.channels:
            alone = Exchange(ALONE, 1)
            with torch.no_grad():
                meet_at_norms([share_weights(self.first, 1)], [sample], lambda net, x: net(x), alone)
            self.channels = alone.channels
        exchange = Exchange(self.world, self.shards)
        for channels in self.channels:
            exchange.join([], 1 + 2 * channels)
        for channels in reversed(self.channels):
            exchange.join([], 2 * channels)


def meet_at_norms(
    nets: Sequence[Network], batches: Sequence[T], run: Callable[[Network, T], Any], exchange: "Exchange"
) -> list[Any]:
    """What `run` makes of each batch with the network of the same number; at a norm they wait for each other."""
    meeting = Meeting(len(batches), exchange)

    def run_one(number: int) -> Any:
        net = nets[number]
        refresh_buffers(nets[0], net)
        net.join_norms(Member(meeting, number))
        with torch.cuda.device_of(next(net.parameters())):  # a thread begins on the first device
            return run(net, batches[number])

    return meeting.run([partial(run_one, number) for number in range(len(batches))])


def require_usual_norms(net: Network) -> None:
    """Refuse a network with batch norms that would see a shard: those of another class than ours, or outside our layers; and
    one with dropout, whose random numbers would depend on which shards a process has.
    """
    ours = {layer.norm for layer in net.conv_layers.values() if is_usual_norm(layer.norm)}
    for name, module in net.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd | TimeDropout) and module.p:
            raise ValueError(
                f"optim.norm_over='batch': {name}, a {type(module).__name__}, draws at random; use 'shard', or p=0"
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module not in ours:
            raise ValueError(
                f"optim.norm_over='batch': {name}, a {type(module).__name__}, would take its statistics over a shard; "
                "use BatchNorm2d with running statistics as the norm of a layer (models/layers.py), or optim.norm_over='shard'"
            )


def share_weights(net: Network, number: int) -> Network:
    """The network's modules once more, with its weights in the same memory; number 0 with its buffers, too."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in net.parameters()}
    if number == 0:
        memo |= {id(buffer): buffer for buffer in net.buffers()}
    return copy.deepcopy(net, memo)


@torch.no_grad()
def refresh_buffers(first: nn.Module, net: nn.Module) -> None:
    """What modules keep beside weights is the same for all shards when a step begins."""
    if net is not first and (buffers := list(net.buffers())):
        torch._foreach_copy_(buffers, list(first.buffers()))


class Aborted(BaseException):
    """Ends a thread whose neighbour has failed."""


class Meeting:
    """Functions in threads, one at a time and in order, which go on together from where each of them meets the others."""

    def __init__(self, size: int, exchange: "Exchange"):
        self.exchange = exchange
        self.turns = [threading.Semaphore(0) for _ in range(size)]
        self.given: list[Stats | None] = [None] * size
        self.answers: list[Stats | None] = [None] * size
        self.error: BaseException | None = None

    def run(self, functions: Sequence[Callable[[], T]]) -> list[T]:
        """The results, in order; the first error of any of them."""
        results: list[Any] = [None] * len(functions)

        def run_one(number: int) -> None:
            try:
                self.take_turn(number)
                results[number] = functions[number]()
                self.pass_on(number)
            except Aborted:
                pass
            except BaseException as error:
                self.abort(error)

        threads = [threading.Thread(target=run_one, args=(number,), daemon=True) for number in range(len(functions))]
        for thread in threads:
            thread.start()
        self.turns[0].release()
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:  # an interrupt
            self.abort(error)
        if self.error is not None:
            raise self.error
        return results

    def meet(self, number: int, stats: Stats) -> Stats:
        """Hand in one's own, and wait until all have: the joint ones."""
        self.given[number] = stats
        if number == len(self.turns) - 1:
            given, self.given = self.given, [None] * len(self.turns)
            self.answers = [*self.exchange.combine(given)]
        self.pass_on(number)
        self.take_turn(number)
        answer, self.answers[number] = self.answers[number], None
        assert answer is not None, "all shards come to the same norms"
        return answer

    def take_turn(self, number: int) -> None:
        self.turns[number].acquire()
        if self.error is not None:
            raise Aborted

    def pass_on(self, number: int) -> None:
        self.turns[(number + 1) % len(self.turns)].release()

    def abort(self, error: BaseException) -> None:
        self.error = self.error or error
        for turn in self.turns:
            turn.release()


class Member:
    """One shard at a meeting: the group of its network's norms (models/layers.py)."""

    def __init__(self, meeting: Meeting, number: int):
        self.meeting, self.number = meeting, number
        self.moves_statistics = number == 0
        self.seen: dict[nn.Module, Stats] = {}

    def combine(self, norm: nn.Module, mean: Tensor, variance: Tensor, count: int) -> Stats:
        if is_recomputing():  # for this shard alone; the gradient goes by the first forward
            mean, variance, values = self.seen[norm]
            return Stats(mean.detach().requires_grad_(), variance.detach().requires_grad_(), values)
        if norm in self.seen:
            raise ValueError("optim.norm_over='batch': a norm is called twice in one forward pass; give each call its own")
        joint = self.meeting.meet(self.number, Stats(mean, variance, count))
        self.seen[norm] = Stats(joint.mean.detach(), joint.variance.detach(), joint.values)
        return joint


class Exchange:
    """The norms of one forward pass, one after the other, and their backward in the opposite order on every process.

    channels:  of the norms so far
    """

    def __init__(self, world: World, shards: int):
        self.world, self.shards = world, shards
        self.channels: list[int] = []
        self.before = torch.zeros(0, requires_grad=True)  # of the norm before: a thread through them that keeps their order

    def join(self, mine: Sequence[Tensor], width: int) -> Tensor:
        """The rows of all shards, float64 [shards, width], given this process's; 0 where there is no shard."""
        table = torch.zeros(self.shards, width, dtype=torch.float64, device=mine[0].device if mine else self.world.device)
        for number, row in enumerate(mine):
            table[self.world.rank + number * self.world.size] = row
        return self.world.join(table)

    def combine(self, given: Sequence[Stats | None]) -> list[Stats]:
        """The joint statistics, once for each of this process's shards."""
        stats = [one for one in given if one is not None]
        assert len(stats) == len(given), "all shards come to the same norms"
        self.channels.append(len(stats[0].mean))
        tensors = [tensor for one in stats for tensor in (one.mean, one.variance)]
        self.before, total, *joint = JointStats.apply(self, [one.values for one in stats], self.before, *tensors)
        return [Stats(mean, variance, total) for mean, variance in zip(joint[::2], joint[1::2], strict=True)]


class JointStats(torch.autograd.Function):
    """Mean and variance over all shards, from those of each; with weights n_s = count of shard s / count of all,

        mean = sum_s n_s mean_s        variance = sum_s n_s (variance_s + (mean_s - mean)^2)

    All sums are over the same table on every process, in float64. What backward needs are numbers per channel, kept as they
    are: hooks on saved tensors, those of activation checkpointing, belong to one shard.
    """

    @staticmethod
    def forward(ctx: Any, exchange: Exchange, counts: list[int], before: Tensor, *stats: Tensor) -> tuple[Any, ...]:
        channels = len(stats[0])
        means, variances = stats[::2], stats[1::2]
        rows = [
            torch.cat([mean.new_tensor([count], dtype=torch.float64), mean.double(), variance.double()])
            for count, mean, variance in zip(counts, means, variances, strict=True)
        ]
        count, mean, variance = exchange.join(rows, 1 + 2 * channels).split([1, channels, channels], 1)
        total = count.sum()
        share = count / total
        joint_mean = (share * mean).sum(0)
        joint_variance = (share * (variance + (mean - joint_mean).square())).sum(0)
        ctx.exchange, ctx.kind = exchange, stats[0].dtype
        ctx.mine = [(count / total, one.double() - joint_mean) for count, one in zip(counts, means, strict=True)]
        joint = [x.to(ctx.kind) for _ in counts for x in (joint_mean, joint_variance)]
        ctx.mark_non_differentiable(total)
        return before.new_zeros(0), total, *(x.clone() for x in joint)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        of_mean, of_variance = grads[2::2], grads[3::2]
        rows = [torch.cat([mean.double(), variance.double()]) for mean, variance in zip(of_mean, of_variance, strict=True)]
        grad_mean, grad_variance = ctx.exchange.join(rows, 2 * len(of_mean[0])).sum(0).chunk(2)
        own = []
        for share, off in ctx.mine:
            own += [share * (grad_mean + 2 * off * grad_variance), share * grad_variance]
        return None, None, grads[0], *(grad.to(ctx.kind) for grad in own)
