"""How a module is called: what hooks see of it, whether it takes a stream's states, whether its call is a second one."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import _has_any_global_hook


@functools.cache
def takes_states(forward: Callable) -> bool:
    """Whether a module with this forward hands on the states of neurons in a stream."""
    parameters = inspect.signature(forward).parameters.values()
    return any(parameter.name == "states" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def is_watched(module: nn.Module) -> bool:
    """Whether a call of this module is seen by hooks, its own or global ones."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or _has_any_global_hook()
        or "parametrizations" in module._modules
    )


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of this module is known to be one of `kind`, as built, and seen by nobody."""
    return type(module) is kind and "forward" not in module.__dict__ and not is_watched(module)


def is_recomputing() -> bool:
    """Whether this forward runs inside backward, which computes checkpointed activations again."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


@contextmanager
def buffers_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """While activations are computed again, these modules work on copies of their buffers: statistics move once per step."""
    before = [(part, dict(part._buffers)) for part in modules] if is_recomputing() else []
    for part, buffers in before:
        part._buffers.update({name: None if buffer is None else buffer.clone() for name, buffer in buffers.items()})
    try:
        yield
    finally:
        for part, buffers in before:
            part._buffers.update(buffers)
