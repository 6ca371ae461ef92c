"""A sequence of functions of a batch, recorded once as CUDA graphs and then repeated without the host.

A GPU takes 5 to 20 us for a small kernel and the host as long to ask for one: a step of SEW-ResNet-18 asks some 800 times.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # times before recording: kernels are compiled and chosen, and libraries take their memory


@contextmanager
def restored(tensors: Sequence[Tensor], scaler: torch.amp.GradScaler) -> Iterator[None]:
    """Give tensors and the loss scaler back the values that they had before."""
    before, scale = [tensor.detach().clone() for tensor in tensors], scaler.state_dict()
    yield
    with torch.no_grad():
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
    scaler.load_state_dict(scale)


class Recording:
    """The first of `functions` is called with samples and labels, the others with nothing; each becomes a graph.

    Calls them, so that what they change has to be restored. On a CPU a replay calls the functions again: it tests that they
    read nothing but tensors that stay where they are.
    """

    def __init__(self, functions: Sequence[Callable[..., None]], samples: Tensor, labels: Tensor):
        self.samples, self.labels = samples.clone(), labels.clone()
        first, *rest = functions
        calls: list[Callable[[], None]] = [lambda: first(self.samples, self.labels), *rest]
        if samples.device.type != "cuda":
            self.replays = calls
            return
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                for call in calls:
                    call()
        torch.cuda.current_stream().wait_stream(stream)
        pool = torch.cuda.graph_pool_handle()
        self.replays = [self.record(call, pool) for call in calls]

    @staticmethod
    def record(call: Callable[[], None], pool: Any) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            call()
        return graph.replay

    def fits(self, samples: Tensor, labels: Tensor) -> bool:
        """Whether a batch has the shapes of the recorded one."""
        return samples.shape == self.samples.shape and labels.shape == self.labels.shape and labels.dtype == self.labels.dtype

    def replay(self, samples: Tensor, labels: Tensor) -> None:
        self.samples.copy_(samples)
        self.labels.copy_(labels)
        for replay in self.replays:
            replay()
