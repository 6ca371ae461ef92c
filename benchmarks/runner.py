"""What the speed benchmarks share: contestants take turns in one process, under one allocator setting.

Results are medians of paired ratios, with the interval that holds the true median with 95 % (from the order statistics), one
JSON line per comparison, with the machine, the versions and the commit.
"""

import argparse
import dataclasses
import json
import math
import platform
import statistics
import subprocess
import sys
import time
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from spikewise.engine.memory.allocator import disable_heap_trim
from spikewise.kernels import describe_backend
from spikewise.native.processor import cpu_name

RESULTS = Path(__file__).parent / "results"
Options = TypeVar("Options")


def parse_options(kind: type[Options]) -> Options:
    """The options of the command line, one for each field of a dataclass: kernels are measured where nothing but PyTorch is."""
    parser = argparse.ArgumentParser(description=kind.__doc__)
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        default, hint = field.default, hints[field.name]
        how: dict[str, Any] = {"type": type(default)}
        if typing.get_origin(hint) is Literal:
            how["choices"] = typing.get_args(hint)
        elif isinstance(default, tuple):
            how = {"type": type(default[0]), "nargs": "+"}
        elif isinstance(default, bool):
            how = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(f"--{field.name.replace('_', '-')}", default=default, help="default %(default)s", **how)
    return kind(**vars(parser.parse_args()))


def describe_commit() -> str:
    """The commit that is checked out; "unknown" without git."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent).stdout.strip()
    except OSError:
        return "unknown"


def where() -> dict[str, Any]:
    """The conditions of a measurement."""
    return {
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "kernels": describe_backend("auto"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "keep_memory": disable_heap_trim(),
        "commit": describe_commit(),
        "command": " ".join(["python", *sys.argv]),
    }


def take_turns(
    steps: dict[str, Callable[[], Any]], rounds: int, warm: int = 4, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; the order changes from round to round.

    clock:  `time.process_time` for the time of the cores that worked, where others work beside them
    """
    names, seconds = list(steps), {name: [] for name in steps}
    for number in range(warm + rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            began = clock()
            steps[name]()
            if number >= warm:
                seconds[name].append(clock() - began)
    return seconds


def kept_bytes(forward: Callable[[], Any], apart_from: Iterable[torch.Tensor]) -> int:
    """Bytes that a forward pass keeps for backward, each storage once, without the parameters."""
    owned = {tensor.untyped_storage().data_ptr() for tensor in apart_from}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # or its address might be given to another one
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(kept.values())


def median_and_interval(values: list[float]) -> tuple[float, float, float]:
    """The median, and order statistics that enclose the true one with about 95 %."""
    ordered = sorted(values)
    reach = max(1, math.ceil(0.98 * math.sqrt(len(ordered))))
    middle = len(ordered) // 2
    return statistics.median(ordered), ordered[max(0, middle - reach)], ordered[min(len(ordered) - 1, middle + reach)]


def report(what: str, seconds: dict[str, list[float]], ours: str, **more: Any) -> list[dict[str, Any]]:
    """Print and return one line per peer: our time over the peer's."""
    lines = []
    for peer, theirs in seconds.items():
        if peer == ours:
            continue
        ratio, low, high = median_and_interval([a / b for a, b in zip(seconds[ours], theirs, strict=True)])
        lines.append(
            {
                "what": what,
                "ours": ours,
                "peer": peer,
                "ratio": round(ratio, 4),
                "interval": [round(low, 4), round(high, 4)],
                "ours_s": round(statistics.median(seconds[ours]), 5),
                "peer_s": round(statistics.median(theirs), 5),
                "rounds": len(seconds[ours]),
                **more,
            }
        )
        print(f"{what:<58} {ours} / {peer:<22} {ratio:.3f} [{low:.3f}, {high:.3f}]", file=sys.stderr)
    return lines


def save(name: str, lines: list[dict[str, Any]]) -> None:
    """Add the lines to a file of results, with the conditions, and print them."""
    RESULTS.mkdir(exist_ok=True)
    conditions = where()
    with (RESULTS / f"{name}.jsonl").open("a") as file:
        for line in lines:
            text = json.dumps(line | conditions)
            print(text)
            file.write(text + "\n")
