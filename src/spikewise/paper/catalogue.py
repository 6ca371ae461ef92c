"""What can be reproduced, by name, and which options belong to what."""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

from .at_start import fig5, fig6, fig7, fig8
from .equations import a5, eq15
from .logs import fig3, fig9
from .options import AT_START, TRAINING, Options, flag
from .page import Result
from .rates import fig4, fig11
from .trained import cifar10_dvs, fig10, tab2, tab3, tab4, tab5

FIGURES: dict[str, Callable[[Options], Result]] = {
    "fig3": fig3,
    "fig5": fig5,
    "fig6": fig6,
    "fig7": fig7,
    "fig8": fig8,
    "fig9": fig9,
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
GROUPS = {"all": FIGURES, "trained": TRAINED}
WEIGHTS_PUBLISHED = ("tab2", "tab3", "fig4")  # the files whose names are known
CHECKED = "check"  # folder of what stands for nothing


def options_of(name: str) -> tuple[str, ...]:
    """The options that change something, besides the seed."""
    if name in TRAINED or name == "trained":
        return (*TRAINING, *(("weights",) if name in WEIGHTS_PUBLISHED else ()))
    return AT_START if name in ("all", "fig5", "fig6", "fig7", "fig8") else ()


def require_fitting(name: str, o: Options) -> None:
    """Refuse an unknown name, options that change nothing there, and such as contradict each other."""
    names = (*GROUPS, *FIGURES, *TRAINED)
    if name not in names:
        raise ValueError(f"nothing named {name!r} to reproduce; use list, {', '.join(names)}")
    if importlib.util.find_spec("matplotlib") is None:  # before anything is trained
        raise ValueError("pictures need the package matplotlib: pip install 'spikewise[plots]'")
    for option in o.changed():
        if option != "seed" and option not in options_of(name):
            takes = ", ".join(other for other in names if option in options_of(other))
            raise ValueError(f"{flag(option)} changes nothing in {name}, it is for {takes}; leave it out")
    if o.check and o.data_root is not None:
        raise ValueError("--check makes its own data; leave out --data-root, or --check to train on yours")
    for option in ("budget", "batch_size"):
        if o.weights is not None and getattr(o, option) is not None:
            raise ValueError(f"--weights evaluates and trains nothing; leave out {flag(option)}, or --weights to train")


def reproduce(name: str, o: Options, out: Path) -> Iterator[tuple[Result, list[Path]]]:
    """One after the other: what came out, and the files that say so. Runs lie in `out`/runs; a check's pages in `out`/check.

    Raises:  ValueError for a name or options that don't fit; what `engine.loop.train` raises
    """
    require_fitting(name, o)
    for key, figure in GROUPS.get(name, {name: (FIGURES | TRAINED).get(name)}).items():
        assert figure is not None, "required above"
        result = figure(dataclasses.replace(o, runs=out / "runs"))
        yield result, result.save(out / CHECKED if o.check else out, o.command(key))


def described() -> list[str]:
    """A line for each."""
    return [
        f"{name:<12} {(figure.__doc__ or '').partition(chr(10))[0]}" + (" (trained: needs the data)" if name in TRAINED else "")
        for name, figure in (FIGURES | TRAINED).items()
    ]
