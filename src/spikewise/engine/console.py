"""What a run prints on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rich.console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class PipeSafeConsole(rich.console.Console):
    """A console that becomes quiet when its reader goes away, where rich would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Console:
    """Lines and a progress bar on standard error."""

    def __init__(self, quiet: bool):
        self.rich = PipeSafeConsole(stderr=True, quiet=quiet or sys.stderr is None, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        try:
            self.rich.print(text, markup=False)
        except (OSError, ValueError):  # closed, or an encoding without these characters: no reason to stop a run
            self.rich.quiet = True

    @property
    def minutely(self) -> Callable[[str], None] | None:
        """`line` where nobody watches a bar: a log file, nohup, a batch system; None on a terminal, or where all is quiet."""
        return None if self.rich.quiet or sys.stderr.isatty() else self.line

    def epoch(self, metrics: dict[str, Any], num_epochs: int, samples_per_second: float) -> None:
        validation = f"validation accuracy {100 * metrics['val_accuracy']:.2f} %  " if "val_accuracy" in metrics else ""
        self.line(
            f"epoch {metrics['epoch']:3}/{num_epochs}  train loss {metrics['train_loss']:.4f}  "
            f"{validation}test accuracy {100 * metrics['test_accuracy']:.2f} %  {samples_per_second:,.0f} samples/s"
        )

    @contextmanager
    def progress(self, total: int, done: int) -> Iterator[Callable[[str], None]]:
        """A progress bar with speed and time left, on a terminal only. Yields a function to call after each step."""
        bar = Progress(
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self.rich,
            transient=True,
            disable=self.rich.quiet or not sys.stderr.isatty(),
        )
        with bar:
            task = bar.add_task("", total=total, completed=done, speed="")
            yield lambda speed: bar.update(task, advance=1, speed=speed)
