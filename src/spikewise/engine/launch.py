"""Several processes on this machine: PyTorch's own launcher, for those who do not start it themselves."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from .console import Console
from .distributed import world_size
from .signals import stops


def require_processes(processes: int) -> None:
    """Refuse a number of processes that cannot be, and a launcher within another.

    Raises:  ValueError
    """
    if processes < 1:
        raise ValueError(f"--processes {processes} is out of range; use 1 or more")
    if world_size() > 1:
        raise ValueError(
            f"--processes {processes} starts a launcher, and WORLD_SIZE={world_size()}: there is one; leave it out"
        )


def launch(processes: int, args: list[str]) -> int:
    """Run `spikewise ARGS` in so many processes of this machine, which train together, and give their exit status.

    A signal to this process goes to all of them, and they save. Where one ends with an error, the others are ended.
    Threads: what OMP_NUM_THREADS says; else the cores are shared out evenly.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # each process says itself what went wrong
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    for number in stops():  # versions of PyTorch differ in those that they pass on
        signal.signal(number, end_all)
    names = ",".join(number.name for number in stops())
    handled: dict[str, Any] = {"signals_to_handle": names} if hasattr(LaunchConfig, "signals_to_handle") else {}
    with tempfile.TemporaryDirectory(prefix="spikewise-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            **handled,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "spikewise", *args)
        except ChildFailedError as error:
            return status_of({rank: failure.exitcode for rank, failure in error.failures.items()})
        except SignalException as error:
            return 128 + error.sigval
    return 0


def end_all(number: int, _frame: Any) -> None:
    """Let the launcher pass a signal on to all processes, and wait for them."""
    raise SignalException(f"signal {number}", signal.Signals(number))


def status_of(codes: dict[int, int]) -> int:
    """The exit status of processes that failed, by rank: of one that a signal ended, which is told, before the others'.

    Not of those that the launcher itself ended with SIGTERM, before they could handle it, since another one had failed.
    """
    codes = {rank: code for rank, code in codes.items() if code != -signal.SIGTERM} or codes
    for rank, code in codes.items():
        if code < 0:
            Console(quiet=False).line(f"spikewise: rank {rank} was ended by signal {-code}")
    code = min(codes.values())
    return 128 - code if code < 0 else code
