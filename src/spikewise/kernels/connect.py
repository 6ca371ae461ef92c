"""g: how the branch's spikes a and what the shortcut carries, s, become a block's output (E6)."""

from collections.abc import Callable

from torch import Tensor

from ..wording import unknown_name

ConnectFn = Callable[[Tensor, Tensor], Tensor]


def add(a: Tensor, s: Tensor) -> Tensor:
    """A + s: what the branch fires comes on top of what the shortcut carries. Integers, not spikes: 0, 1, 2, ..."""
    return a + s


def and_(a: Tensor, s: Tensor) -> Tensor:
    """A AND s: the branch decides which of the shortcut's spikes pass."""
    return a * s


def iand(a: Tensor, s: Tensor) -> Tensor:
    """(NOT a) AND s: the branch may only silence what the shortcut carries."""
    return (1 - a) * s


CONNECT: dict[str, ConnectFn] = {"ADD": add, "AND": and_, "IAND": iand}


def resolve_connect(connect: str | ConnectFn) -> ConnectFn:
    """The function that a word of CONNECT (upper or lower case) stands for; a function stands for itself."""
    if callable(connect):
        return connect
    if isinstance(connect, str) and connect in CONNECT:
        return CONNECT[connect]
    if not isinstance(connect, str) or connect.upper() not in CONNECT:
        raise ValueError(f"{unknown_name('connection', connect, CONNECT, own=True)}; in Python also a function of (a, s)")
    return CONNECT[connect.upper()]


def max_connected_value(connect: ConnectFn | None, shortcut: int) -> int:
    """The largest value of g, of spikes and a shortcut of at most `shortcut`; 0: not known."""
    if connect is None:
        return 1
    if shortcut == 0 or connect not in (add, and_, iand):
        return 0
    return shortcut + 1 if connect is add else shortcut
