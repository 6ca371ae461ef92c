"""The figures, tables and equations that can be reproduced, by name, and the options of each."""

import dataclasses
import importlib.util
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ..wording import did_you_mean
from .conversion import conversion
from .degradation import degradation
from .equations import a5, eq10, eq15
from .options import LEDGER_OPTIONS, TRAINING_OPTIONS, UNTRAINED_OPTIONS, Options, flag
from .page import Result
from .published_logs import fig3, fig9
from .rates import fig4, fig11
from .trained import cifar10_dvs, fig10, tab2, tab3, tab4, tab5
from .untrained import fig5, fig6, fig7, fig8

UNTRAINED: dict[str, Callable[[Options], Result]] = {
    "fig3": fig3,
    "fig5": fig5,
    "fig6": fig6,
    "fig7": fig7,
    "fig8": fig8,
    "fig9": fig9,
    "eq10": eq10,
    "eq15": eq15,
    "a5": a5,
}
TRAINED: dict[str, Callable[[Options], Result]] = {
    "tab2": tab2,
    "tab3": tab3,
    "fig4": fig4,
    "tab4": tab4,
    "tab5": tab5,
    "fig10": fig10,
    "fig11": fig11,
    "cifar10-dvs": cifar10_dvs,
}
GRIDS: dict[str, Callable[[Options], Result]] = {
    "degradation-cifar10": partial(degradation, data_name="cifar10"),
    "degradation-fashion-mnist": partial(degradation, data_name="fashion-mnist"),
    "conversion-digits": partial(conversion, data_name="digits"),
    "conversion-fashion-mnist": partial(conversion, data_name="fashion-mnist"),
    "conversion-cifar10": partial(conversion, data_name="cifar10"),
}
GROUPS = {"all": UNTRAINED, "trained": TRAINED}
WEIGHTS_PUBLISHED = ("tab2", "tab3", "fig4")  # the files whose names are known
CHECK_FOLDER = "check"  # of pages made from synthetic data


def options_for(name: str) -> tuple[str, ...]:
    """The options that change something, besides the seed."""
    if name in GRIDS:
        return LEDGER_OPTIONS
    if name in TRAINED or name == "trained":
        return (*TRAINING_OPTIONS, *(("weights",) if name in WEIGHTS_PUBLISHED else ()))
    return UNTRAINED_OPTIONS if name in ("all", "fig5", "fig6", "fig7", "fig8") else ()


def check_request(name: str, o: Options) -> None:
    """Refuse an unknown name, options that have no effect there, and options that contradict each other."""
    names = (*GROUPS, *UNTRAINED, *TRAINED, *GRIDS)
    if name not in names:
        raise ValueError(f"nothing named {name!r} to reproduce; {did_you_mean(name, names)}use list, {', '.join(names)}")
    if importlib.util.find_spec("matplotlib") is None:  # before anything is trained
        raise ValueError("pictures need the package matplotlib: pip install 'spikewise[plots]'")
    for option in o.non_default():
        if option != "seed" and option not in options_for(name):
            users = ", ".join(other for other in names if option in options_for(other))
            raise ValueError(f"{flag(option)} changes nothing in {name}, it is for {users}; leave it out")
    if o.check and o.data_root is not None:
        raise ValueError("--check makes its own data; leave out --data.root, or --check to train on yours")
    for option in ("max_epochs", "batch_size"):
        if o.weights is not None and getattr(o, option) is not None:
            raise ValueError(f"--weights evaluates and trains nothing; leave out {flag(option)}, or --weights to train")


def reproduce(name: str, o: Options, out: Path) -> Iterator[tuple[Result, list[Path]]]:
    """Reproduce one figure or table, or a group; yield each result and its files.

    Runs are stored in `out`/runs, the pages of a check in `out`/check.
    Raises:  ValueError for a name or options that don't fit; what `engine.loop.train` raises
    """
    check_request(name, o)
    for key in GROUPS.get(name, (name,)):
        start = time.perf_counter()
        result = (UNTRAINED | TRAINED | GRIDS)[key](dataclasses.replace(o, runs=out / "runs"))
        seconds = time.perf_counter() - start
        yield result, result.save(out / CHECK_FOLDER if o.check else out, o.command(key), seconds)


def list_entries() -> list[str]:
    """A line for each."""
    return [
        f"{name:<26} {summary(figure)}" + ("" if name in UNTRAINED else " (trained: needs the data)")
        for name, figure in (UNTRAINED | TRAINED | GRIDS).items()
    ]


def summary(figure: Callable[[Options], Result]) -> str:
    """The first line of a function's docstring."""
    return (getattr(figure, "func", figure).__doc__ or "").partition("\n")[0]
