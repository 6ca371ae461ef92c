"""The processes that train together: who they are, and the few collective calls that training needs.

torchrun starts them, or a batch system that sets the same variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).
Everything is exact and knows no order: maxima, sums of integers, copies. So nothing depends on how many processes there are.
"""

import datetime
import io
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed

from .errors import RankLostError
from .signals import stopped_with_parent

MESSAGE = 2**16  # numbers, from which on a tensor is a message of its own, summed where it is
TIMEOUT = datetime.timedelta(minutes=5)  # for all processes to come together


T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of a training. Of one that is alone every call returns what it was given.

    rank:    this process's number, 0 to size - 1; only rank 0 writes and prints
    size:    how many there are
    device:  where tensors are exchanged
    launch:  the same word in all processes that one launcher starts, and starts again; "" without a launcher
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    launch: str = ""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def max(self, x: Tensor) -> Tensor:
        """The elementwise maximum over all processes, in place."""
        if self.size > 1:
            with other_ranks_needed():
                distributed.all_reduce(x, distributed.ReduceOp.MAX)
        return x

    def sum(self, x: Tensor) -> Tensor:
        """The elementwise sum over all processes, in place. Of integers it knows no order."""
        if self.size > 1:
            with other_ranks_needed():
                distributed.all_reduce(x, distributed.ReduceOp.SUM)
        return x

    def sum_all(self, tensors: Sequence[Tensor]) -> None:
        """`sum` of many tensors of one type, small ones in one message; dense ones, of the same layouts in all processes."""
        if self.size == 1:
            return
        flat = [tensor.as_strided((tensor.numel(),), (1,)) for tensor in tensors]  # in the order of memory, whatever the layout
        for part in flat:
            if len(part) >= MESSAGE:
                self.sum(part)
        if small := [part for part in flat if len(part) < MESSAGE]:
            total = self.sum(torch.cat(small))
            torch._foreach_copy_(small, list(total.split([len(part) for part in small])))

    def join(self, x: Tensor) -> Tensor:
        """Float64 numbers of which each process has filled in its own and left the others 0: all of them, to the bit."""
        assert x.dtype == torch.float64 and x.is_contiguous(), "bit patterns are added as integers"
        return x if self.size == 1 else self.sum(x.to(self.device).view(torch.int64)).view(torch.float64).to(x.device)

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the values of rank 0, in place, in one message of bytes."""
        if self.size == 1 or not tensors:
            return
        content = [tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in tensors]
        message = torch.cat(content)
        with other_ranks_needed():
            distributed.broadcast(message, src=0)
        if not self.is_first:
            for tensor, part in zip(tensors, message.split([len(part) for part in content]), strict=True):
                tensor.detach().copy_(part.clone().view(tensor.dtype).reshape(tensor.shape))

    def gather(self, content: bytes) -> list[bytes]:
        """The bytes of every process, by rank."""
        if self.size == 1:
            return [content]
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(content)
        lengths = self.sum(lengths.to(self.device)).cpu()
        mine = torch.from_numpy(np.frombuffer(content.ljust(int(lengths.max()), b"\0"), np.uint8).copy()).to(self.device)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        with other_ranks_needed():
            distributed.all_gather(parts, mine)
        return [part[:length].cpu().numpy().tobytes() for part, length in zip(parts, lengths.tolist(), strict=True)]

    def tell(self, answer: Callable[[], str]) -> str:
        """What `answer` gives on rank 0; it is called there alone, and the others wait for it."""
        return self.gather(answer().encode() if self.is_first else b"")[0].decode()

    def share(self, items: Sequence[T], read: Callable[[T], dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """What `read` gives of each item, named arrays: each process reads a part of the items, and gets all results."""
        if self.size == 1:
            return [read(item) for item in items]
        file = io.BytesIO()
        mine = range(self.rank, len(items), self.size)
        np.savez(file, **{f"{i}/{name}": values for i in mine for name, values in read(items[i]).items()})  # type: ignore[arg-type]
        results: list[dict[str, np.ndarray]] = [{} for _ in items]
        for content in self.gather(file.getvalue()):
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                for key, values in arrays.items():
                    number, _, name = key.partition("/")
                    results[int(number)][name] = values
        return results


ALONE = World()


@contextmanager
def other_ranks_needed() -> Iterator[None]:
    """RankLostError where another process is gone."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        detail = str(error).partition(". This is")[0].partition("\n")[0].partition("] ")[2][:120] or type(error).__name__
        raise RankLostError(f"another rank ended or cannot be reached, and its own message says why ({detail})") from None


def local_rank() -> int:
    """The number of this process on its machine."""
    return whole_number("LOCAL_RANK", 0)


def local_size() -> int:
    """How many processes train together on this machine."""
    return max(1, whole_number("LOCAL_WORLD_SIZE", 1))


def world_size() -> int:
    """How many processes were started together, as the environment says."""
    return whole_number("WORLD_SIZE", 1)


def whole_number(name: str, default: int | None = None) -> int:
    """A variable of the environment that holds a whole number, 0 or more.

    Raises:  ValueError for something else, and where there is none and no default
    """
    value = os.environ.get(name)
    if value is None and default is not None:
        return default
    if value is None or not value.isdecimal():
        given = "is not set" if value is None else f"is {value!r}"
        raise ValueError(f"the variable {name} {given}, and WORLD_SIZE is; start with torchrun, or set all that it sets")
    return int(value)


def first_difference(world: World, facts: dict[str, Any]) -> str:
    """The first rank that differs from rank 0, and in what, the same in every process; "" where none does.

    facts:  of this process, by the name that a user knows them by
    """
    first, *others = [json.loads(content) for content in world.gather(json.dumps(facts).encode())]
    for rank, theirs in enumerate(others, start=1):
        names = [name for name in {**first, **theirs} if first.get(name) != theirs.get(name)]
        if names:
            differences = ", ".join(f"{name} {first.get(name)!r} -> {theirs.get(name)!r}" for name in names[:3])
            return f"rank {rank} differs from rank 0: {differences}"
    return ""


def require_same(world: World, facts: dict[str, Any]) -> None:
    """Refuse processes that differ in what they were given.

    facts:   what has to be the same, by the name that a user knows it by
    Raises:  ValueError in all of them, which names the first rank that differs, and in what
    """
    if difference := first_difference(world, facts):
        raise ValueError(f"{difference}; start all processes with the same command, data and versions")


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The processes that were started together with this one, connected while open; alone where there are no others.

    A process group that the caller has made is used as it is.
    Raises:  ValueError for variables that do not fit; OSError where the processes do not find each other
    """
    if distributed.is_available() and distributed.is_initialized():
        where = device if "nccl" in distributed.get_backend() else torch.device("cpu")
        yield World(distributed.get_rank(), distributed.get_world_size(), where)
        return
    size, has_launcher = world_size(), os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if size <= 1 and not has_launcher:
        yield ALONE
        return
    if not distributed.is_available():
        raise ValueError(f"WORLD_SIZE={size}, but this PyTorch was built without torch.distributed; train in one process")
    with stopped_with_parent() if has_launcher else nullcontext(), connected(device, size, has_launcher=has_launcher) as world:
        yield world


@contextmanager
def connected(device: torch.device, size: int, *, has_launcher: bool) -> Iterator[World]:
    """The part of `joined` that makes the process group."""
    rank, backend = whole_number("RANK"), "nccl" if device.type == "cuda" else "gloo"
    if rank >= size:
        raise ValueError(f"RANK={rank} is out of range; use 0 to {size - 1}, below WORLD_SIZE={size}")
    host, port = os.environ.get("MASTER_ADDR", "localhost"), whole_number("MASTER_PORT")
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # not among its exports by name

    try:
        store = TCPStore(host, port, size, is_master=rank == 0 and not has_launcher, timeout=TIMEOUT, wait_for_workers=False)
        launch = store.compare_set("spikewise/launch", "", uuid.uuid4().hex).decode() if has_launcher else ""
        if size > 1:
            prefix = meet(store, rank, size)
            distributed.init_process_group(backend, store=PrefixStore(prefix, store), rank=rank, world_size=size)
    except RuntimeError as error:
        raise OSError(connection_problem(error, f"{host}:{port}", size)) from None
    try:
        yield World(rank, size, device if backend == "nccl" else torch.device("cpu"), launch)
    except BaseException:
        if size > 1 and backend == "gloo":  # NCCL's would wait for the others
            distributed.destroy_process_group()
        raise
    if size > 1:
        distributed.destroy_process_group()


def meet(store: Any, rank: int, size: int) -> str:
    """A name for what this round of processes keeps in the store, which all of them know when all have come.

    A launcher's store outlives processes, and holds what those before have left. So rank 0 names each round anew, and
    another rank takes part in it only when rank 0 answers this very process.
    Raises:  RuntimeError where some do not come in time
    """
    me = uuid.uuid4().hex
    if rank == 0:
        hello = [f"spikewise/{me}/{other}" for other in range(1, size)]
        store.set("spikewise/round", me)
        store.wait(hello, TIMEOUT)
        store.set(f"spikewise/{me}/all", " ".join(store.get(key).decode() for key in hello))
        return me
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        name = store.get("spikewise/round").decode()
        store.set(f"spikewise/{name}/{rank}", me)
        if store.check([f"spikewise/{name}/all"]) and me in store.get(f"spikewise/{name}/all").decode().split():
            return name
        time.sleep(0.02)
    raise RuntimeError("rank 0 did not come in time")


def connection_problem(error: Exception, address: str, size: int) -> str:
    """Why the processes do not find each other, in words."""
    if "EADDRINUSE" in str(error) or "already in use" in str(error):
        return f"the port of {address} is in use by another program; set another MASTER_PORT, or use torchrun --standalone"
    reason = str(error).strip().partition("\n")[0].partition(". This is")[0][:160]
    return f"{size} processes should meet at {address}, which failed: {reason}; are MASTER_ADDR and MASTER_PORT right?"
