"""g: how the branch's spikes a and what the shortcut carries, s, become a block's output (E6)."""

from collections.abc import Callable

from torch import Tensor

Connect = Callable[[Tensor, Tensor], Tensor]


def add(a: Tensor, s: Tensor) -> Tensor:
    """A + s: what the branch fires comes on top of what the shortcut carries. Integers, not spikes: 0, 1, 2, ..."""
    return a + s


def and_(a: Tensor, s: Tensor) -> Tensor:
    """A AND s: the branch decides which of the shortcut's spikes pass."""
    return a * s


def iand(a: Tensor, s: Tensor) -> Tensor:
    """(NOT a) AND s: the branch may only silence what the shortcut carries."""
    return (1 - a) * s


CONNECT: dict[str, Connect] = {"ADD": add, "AND": and_, "IAND": iand}
