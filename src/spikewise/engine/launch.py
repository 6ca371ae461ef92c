"""Several processes on this machine: PyTorch's own launcher, for those who do not start it themselves."""

import logging
import os
import sys
import tempfile
import uuid

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from .console import Console
from .distributed import world_size
from .signals import STOPS


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
            signals_to_handle=",".join(number.name for number in STOPS),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "spikewise", *args)
        except ChildFailedError as error:
            return status_of({rank: failure.exitcode for rank, failure in error.failures.items()})
        except SignalException as error:
            return 128 + error.sigval
    return 0


def status_of(codes: dict[int, int]) -> int:
    """The exit status of processes that failed, by rank: the first one's; a signal that ended one is told."""
    for rank, code in codes.items():
        if code < 0:
            Console(quiet=False).line(f"spikewise: rank {rank} was ended by signal {-code}")
    code = next(iter(codes.values()))
    return 128 - code if code < 0 else code
