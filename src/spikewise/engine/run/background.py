"""A thread that writes while training goes on."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType


class Background:
    """Runs jobs in a thread, one at a time; what a job raises is raised where the next one is begun or waited for.

    Leaving the `with` block waits for the job in flight. Only after KeyboardInterrupt, which ends the process at once, nothing
    is waited for: a job must be one that may end anywhere.
    """

    def __init__(self) -> None:
        self.job: Future[None] | None = None

    def start(self, work: Callable[[], object]) -> None:
        """Begin a job, when the one before is done."""
        self.wait()
        self.job = Future()
        self.begin(work, self.job)

    def begin(self, work: Callable[[], object], job: Future[None]) -> None:
        # ends with the process, as a killed one does; threads of an executor would be waited for
        threading.Thread(target=run, args=(work, job), daemon=True).start()

    def check(self) -> None:
        """Raise what the job in flight has raised, if it has; waits for nothing."""
        if self.job is not None and self.job.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the job in flight, and raise what it raised."""
        job, self.job = self.job, None
        if job is not None:
            job.result()

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.wait()
        elif self.job is not None and not isinstance(error, KeyboardInterrupt):
            self.job.exception()  # waits; the first error is the one that is told


def run(work: Callable[[], object], job: Future[None]) -> None:
    try:
        work()
    except BaseException as error:
        job.set_exception(error)
    else:
        job.set_result(None)
