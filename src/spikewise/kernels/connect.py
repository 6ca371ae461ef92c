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


def most_of(connect: Connect | None, shortcut: int | None) -> int:
    """The largest value of g where the shortcut's is this (None: there is no shortcut). 0: nothing is known of it."""
    if connect is None or shortcut is None:
        return 1
    if shortcut == 0 or connect not in CONNECT.values():
        return 0
    return shortcut + 1 if connect is add else shortcut
