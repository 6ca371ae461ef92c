"""An integer network, in plain NumPy: written to be read, and ported. Needs nothing of spikewise, and no PyTorch.

The file's format and every operation are in docs/integer.md. All numbers are whole; nothing here is a float.
"""

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MAGIC, VERSION = b"SPKWINT\0", 1
CONV, FIRE, ADD, AND, IAND, MAXPOOL, SUMPOOL, FEATURES = range(8)  # kinds of operations
NAMES = ("conv", "fire", "add", "and", "iand", "maxpool", "sumpool", "features")
HEADER = struct.Struct("<8s8I")  # magic, version, channels, height, width, classes, features, buffers, operations
OPERATION = struct.Struct("<4I8i")  # kind, input, other, output; eight numbers
LEAK_BITS = 16  # of the fraction in which a leak is told
LARGEST = 2**30  # of currents and of membranes, which stop there: a sum of both fits 32 bits


@dataclass
class Operation:
    """One step of the program.

    source, other, target:  numbers of buffers
    numbers:                what the kind needs: see `run`
    weights:                int8 of a convolution [C', C, k, k]; int32 of others, one row per table, [rows, C']
    bias:                   int32 [C'] of a convolution
    """

    kind: int
    source: int
    other: int
    target: int
    numbers: tuple[int, ...]
    weights: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    bias: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))


@dataclass
class Program:
    """What a file holds.

    shape:    (C, H, W) of a frame
    head:     weights int8 [classes, features], bias int32 [classes] of each frame
    """

    shape: tuple[int, int, int]
    buffers: int
    operations: list[Operation]
    head: np.ndarray
    head_bias: np.ndarray


class Runner:
    """Runs a program frame by frame, for a batch of streams.

    states:   of each FIRE, its membranes int32 [N, C, H, W]; before the first frame there are none
    buffers:  behind a step, what each buffer holds, by its number
    """

    def __init__(self, program: Program):
        self.program = program
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self.states: dict[int, np.ndarray] = {}
        self.buffers: dict[int, np.ndarray] = {}
        self.total: Any = 0
        self.frames = 0

    def step(self, frame: np.ndarray) -> np.ndarray:
        """See one more frame: logits int64 [N, classes] of all so far, in a unit that is the same for every class.

        frame:   whole numbers [N, C, H, W], in units of the input: see docs/integer.md
        Raises:  ValueError for other numbers, or another shape
        """
        if frame.shape[1:] != self.program.shape or not np.issubdtype(frame.dtype, np.integer):
            whole = np.issubdtype(frame.dtype, np.floating) and np.array_equal(frame, np.rint(frame))
            if frame.shape[1:] != self.program.shape or not whole:
                wanted = ", ".join(map(str, self.program.shape))
                given = f"{list(frame.shape)} {frame.dtype}"
                raise ValueError(f"given {given}; a frame is whole numbers [N, {wanted}]: round(x / unit), docs/integer.md")
        buffers = self.buffers = {0: frame.astype(np.int32)}
        for number, operation in enumerate(self.program.operations):
            x, other = buffers[operation.source], buffers.get(operation.other)
            if operation.kind == FEATURES:
                self.total = self.total + x.sum((2, 3), dtype=np.int64)
            elif operation.kind == FIRE:
                buffers[operation.target], self.states[number] = fire(x, self.states.get(number), operation)
            else:
                buffers[operation.target] = STATELESS[operation.kind](x, other, operation)
        self.frames += 1
        return self.total @ self.program.head.T.astype(np.int64) + self.frames * self.program.head_bias.astype(np.int64)

    def run(self, frames: np.ndarray) -> np.ndarray:
        """Logits of sequences [T, N, C, H, W], from rest."""
        self.reset()
        for frame in frames:
            logits = self.step(frame)
        return logits


def conv(x: np.ndarray, _: Any, operation: Operation) -> np.ndarray:
    """Numbers: stride, padding. Sums of weights where spikes are: int32, within the bounds that the file was checked for."""
    stride, padding = operation.numbers[:2]
    weights = operation.weights
    size = weights.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = ((side - size) // stride + 1 for side in x.shape[2:])
    out = np.zeros((len(x), len(weights), height, width), np.int32) + operation.bias[:, None, None]
    for i in range(size):
        for j in range(size):
            seen = x[:, :, i : i + stride * height : stride, j : j + stride * width : stride]
            out += np.tensordot(weights[:, :, i, j].astype(np.int32), seen, (1, 1)).swapaxes(0, 1)
    return out


def fire(x: np.ndarray, v: np.ndarray | None, operation: Operation) -> tuple[np.ndarray, np.ndarray]:
    """Numbers: leak, bits, decay_input, soft. Tables: threshold, rest, in units of 2^-bits. Spikes, and the membranes behind.

    X = x 2^bits; without a leak h = v + X. With one, h = v + ((rest - v + X) leak >> 16), or, where the input does not
    decay, h = v + ((rest - v) leak >> 16) + X: the product has 48 bits, and >> rounds down.
    Membranes stop at 2^30 and -2^30.
    """
    leak, bits, decay_input, soft = operation.numbers[:4]
    threshold, rest = (table[:, None, None] for table in operation.weights)
    current = x.astype(np.int64) << bits
    v = np.broadcast_to(rest, x.shape).astype(np.int64) if v is None else v.astype(np.int64)
    if not leak:
        h = v + current
    elif decay_input:
        h = v + ((rest - v + current) * leak >> LEAK_BITS)
    else:
        h = v + ((rest - v) * leak >> LEAK_BITS) + current
    spikes = (h >= threshold).astype(np.int32)
    v = h - spikes * threshold if soft else np.where(spikes, rest, h)
    return spikes, v.clip(-LARGEST, LARGEST).astype(np.int32)


def add(x: np.ndarray, other: np.ndarray, operation: Operation) -> np.ndarray:
    """Tables: what one of x, and one of the other, counts in each channel; none: 1 and 1."""
    if not operation.weights.size:
        return x + other
    mine, theirs = (table[:, None, None] for table in operation.weights)
    return x * mine + other * theirs


def max_pool(x: np.ndarray, _: Any, operation: Operation) -> np.ndarray:
    """Numbers: window, stride, padding. What is outside counts as less than everything."""
    return pool(x, operation, np.maximum, np.iinfo(np.int32).min)


def sum_pool(x: np.ndarray, _: Any, operation: Operation) -> np.ndarray:
    """Numbers: window, stride, padding. The sum; whoever reads it has weights that are smaller by the window's size."""
    return pool(x, operation, np.add, 0)


def pool(x: np.ndarray, operation: Operation, join: Any, outside: int) -> np.ndarray:
    size, stride, padding = operation.numbers[:3]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=outside)
    height, width = ((side - size) // stride + 1 for side in x.shape[2:])
    windows = [
        x[:, :, i : i + stride * height : stride, j : j + stride * width : stride] for i in range(size) for j in range(size)
    ]
    out = windows[0]
    for window in windows[1:]:
        out = join(out, window)
    return out


STATELESS: dict[int, Any] = {
    CONV: conv,
    ADD: add,
    AND: lambda x, other, _: x * other,
    IAND: lambda x, other, _: (1 - x) * other,
    MAXPOOL: max_pool,
    SUMPOOL: sum_pool,
}


def write_program(program: Program) -> bytes:
    """The content of a file."""
    parts = [
        HEADER.pack(MAGIC, VERSION, *program.shape, *program.head.shape, program.buffers, len(program.operations)),
        program.head.astype("<i1").tobytes(),
        program.head_bias.astype("<i4").tobytes(),
    ]
    for operation in program.operations:
        numbers = (*operation.numbers, *[0] * (8 - len(operation.numbers)))
        is_conv = operation.kind == CONV
        rows = operation.weights.shape if is_conv else (*operation.weights.shape, 0, 0)[:2]
        shape = (*rows, 0, 0, 0, 0)[:4]
        parts += [
            OPERATION.pack(operation.kind, operation.source, operation.other, operation.target, *numbers),
            struct.pack("<4I", *shape),
            operation.weights.astype("<i1" if is_conv else "<i4").tobytes(),
            operation.bias.astype("<i4").tobytes(),
        ]
    return b"".join(parts)


def read_program(path: str | Path) -> Program:
    """The program in a file.

    Raises:  ValueError for what is none, or was cut or changed
    """
    content = memoryview(Path(path).read_bytes())
    place = 0

    def take(kind: str, *shape: int) -> np.ndarray:
        nonlocal place
        size = math.prod(shape) * np.dtype(kind).itemsize  # of Python's own integers: a file may claim any
        if size > len(content) - place:
            raise ValueError(f"{path} ends after {len(content):,} bytes, in the middle of a table; get it again")
        found = np.frombuffer(content[place : place + size], kind).reshape(shape)
        place += size
        return found

    fields = take("<u4", HEADER.size // 4)
    if bytes(content[:8]) != MAGIC:
        raise ValueError(f"{path} is no integer network of spikewise: it begins with {bytes(content[:8])!r}")
    version, *shape, classes, features, buffers, operations = map(int, fields[2:])
    if version != VERSION:
        raise ValueError(f"{path} has version {version}; this reads {VERSION}")
    head, head_bias = take("<i1", classes, features), take("<i4", classes)
    program = Program((shape[0], shape[1], shape[2]), buffers, [], head, head_bias)
    for _ in range(operations):
        kind, source, other, target = map(int, take("<u4", 4))
        numbers, sizes = tuple(map(int, take("<i4", 8))), tuple(map(int, take("<u4", 4)))
        if kind >= len(NAMES) or max(source, other, target) >= buffers:
            raise ValueError(
                f"{path}: an operation of kind {kind} on buffers {source}, {other}, {target} is none; get it again"
            )
        weights = take("<i1", *sizes) if kind == CONV else take("<i4", *sizes[:2])
        bias = take("<i4", sizes[0]) if kind == CONV else np.empty(0, np.int32)
        program.operations.append(Operation(kind, source, other, target, numbers, weights, bias))
    if place != len(content):
        raise ValueError(f"{path} has {len(content) - place:,} bytes too many; get it again")
    try:
        require_runnable(program)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; get it again") from None
    return program


def require_runnable(program: Program) -> None:
    """Refuse a program that could not run to its end: shapes are followed from operation to operation.

    Raises:  ValueError
    """
    shapes, features = {0: program.shape}, 0
    for number, operation in enumerate(program.operations):
        if operation.source not in shapes or (takes_two(operation) and operation.other not in shapes):
            raise ValueError(f"operation {number} reads what no operation before it has written")
        shape, other = shapes[operation.source], shapes.get(operation.other)
        if not fits(operation, shape, other):
            raise ValueError(f"operation {number}, {NAMES[operation.kind]}, does not fit what it reads, {list(shape)}")
        if operation.kind == FEATURES:
            features = shape[0]
        else:
            shapes[operation.target] = output_shape(operation, shape)
    if features != program.head.shape[1]:
        raise ValueError(f"its head reads {program.head.shape[1]} features, and is given {features}")


def takes_two(operation: Operation) -> bool:
    return operation.kind in (ADD, AND, IAND)


def window_of(operation: Operation) -> tuple[int, int, int]:
    """Size, stride and padding of a convolution or a pooling."""
    if operation.kind == CONV:
        return operation.weights.shape[-1], operation.numbers[0], operation.numbers[1]
    return operation.numbers[0], operation.numbers[1], operation.numbers[2]


def fits(operation: Operation, shape: tuple[int, int, int], other: tuple[int, int, int] | None) -> bool:
    """Whether numbers and tables of an operation suit the shape that it reads."""
    channels, *sides = shape
    tables, numbers = operation.weights.shape, operation.numbers
    if operation.kind == FIRE:
        return tables == (2, channels) and 0 <= numbers[0] <= 1 << LEAK_BITS and 0 <= numbers[1] <= 8
    if takes_two(operation):
        return shape == other and (operation.kind != ADD or 0 in tables or tables == (2, channels))
    if operation.kind == FEATURES:
        return True
    size, stride, padding = window_of(operation)
    whole = size >= 1 and stride >= 1 and 0 <= padding < size and min(sides) + 2 * padding >= size
    return whole and (operation.kind != CONV or tables == (len(operation.weights), channels, size, size))


def output_shape(operation: Operation, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    channels, height, width = shape
    if operation.kind not in (CONV, MAXPOOL, SUMPOOL):
        return shape
    size, stride, padding = window_of(operation)
    height, width = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
    return (len(operation.weights) if operation.kind == CONV else channels), height, width
