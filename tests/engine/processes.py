"""Several processes that train together: forked from the test, so that nothing is imported anew."""

import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback

SECONDS = 40  # of all processes together


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def in_processes(size, function, *args):
    """What `function(rank, *args)` gives in each of so many processes, or the exception that it raises, by rank."""
    port, children = free_port(), []
    sys.stdout.flush()
    for rank in range(size):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in variables.items()})
            run_and_exit(write, function, rank, args)
        os.close(write)
        children.append((pid, read))
    deadline = time.monotonic() + SECONDS
    return [collect(pid, read, deadline) for pid, read in children]


def run_and_exit(write, function, rank, args):
    try:
        answer = function(rank, *args)
    except BaseException as error:
        if not isinstance(error, Exception):
            traceback.print_exc()
        answer = error
    with os.fdopen(write, "wb") as pipe:
        pipe.write(pickle.dumps(answer))
    os._exit(0)


def collect(pid, read, deadline):
    """The answer of a process; None where it was killed, and where it took too long."""
    if not select.select([read], [], [], max(0, deadline - time.monotonic()))[0]:
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(read, "rb") as pipe:
        content = pipe.read()
    os.waitpid(pid, 0)
    return pickle.loads(content) if content else None
