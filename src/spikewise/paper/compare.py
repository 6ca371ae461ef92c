"""Runs beside the paper and the published logs: tables, curves, and whether what the paper says came out."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..analysis.figures import COLOUR_OF, COLOURS, MARK_OF, MARKS, legend_below, panels
from .arms import Arm, Cited
from .logs import PANELS, Epochs, published
from .options import Options
from .page import Claim, Clock, Result, duration
from .runs import Ran, at_work, run_arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAST = 10  # epochs of which the mean is told
FEW = 15  # epochs that are marked one by one
CHECKED = "**A check on stand-in data. It shows that the whole way can be gone; its numbers mean nothing.** "
Claims = Callable[[list[Ran]], list[Claim]]


def table(name: str, title: str, arms: tuple[Arm, ...], o: Options, claims: Claims) -> Result:
    """Run the arms, and put them beside the paper and the logs. Claims are told of whole runs only."""
    clock, logs = Clock(), published()
    with at_work(arms, o) as inside:
        runs = [run_arm(arm, inside) for arm in arms]
    found = [compared(ran, logs.get(ran.arm.log or "", [])) for ran in runs]
    rows = [list(found[0]), *(list(one.values()) for one in found)]
    pictures = {name: curves(runs, logs)} if o.weights is None else {}
    told = claims(runs) if final(runs, o) else []
    return Result(name, title, about(runs, o), rows, told, pictures, float(clock), on_page(found), o.device)


def final(runs: list[Ran], o: Options) -> bool:
    """Whether the numbers are those that the paper speaks of."""
    return not o.check and all(ran.whole or ran.run is None for ran in runs)


def compared(ran: Ran, log: Epochs) -> dict[str, Any]:
    """An arm's numbers by column, accuracies in percent; None where there is none."""
    arm = ran.arm
    ours = [100 * line["test_accuracy"] for line in ran.lines]
    theirs = [line["test_acc1"] for line in log]
    best, apart = best_epoch(ran), difference(ran, ours, theirs)
    return {
        "network": arm.name,
        "paper (best epoch)": arm.paper,
        "paper, first five": arm.paper5,
        "log, best": max(theirs, default=None),
        "log, final": theirs[-1] if theirs else None,
        f"log, mean of the last {LAST}": mean(theirs[-LAST:]),
        "best": ours[best],
        "best epoch": ran.lines[best]["epoch"],
        "final": ours[-1],
        f"mean of the last {LAST}": mean(ours[-LAST:]),
        "first five, best": max(100 * line["test_correct5"] / line["test_total"] for line in ran.lines),
        "difference": apart[0],
        "difference of": apart[1],
        "epochs": len(ours),
        "epochs of the recipe": ran.epochs,
        "seconds": round(ran.seconds, 1),
        "command": ran.command,
        "machine": ran.machine,
    }


def difference(ran: Ran, ours: list[float], theirs: list[float]) -> tuple[float | None, str]:
    """How far ours is from what it can be compared with, and what that is."""
    if ran.run is None:  # the published files are the last epoch's
        return (ours[-1] - theirs[-1], "the log's last epoch") if theirs else (None, "")
    if ran.whole and ran.arm.paper is not None:
        return max(ours) - ran.arm.paper, "best epochs"
    if len(ours) <= len(theirs):
        return ours[-1] - theirs[len(ours) - 1], f"the log in epoch {len(ours)}"
    return None, ""


def best_epoch(ran: Ran) -> int:
    return max(range(len(ran.lines)), key=lambda i: ran.lines[i]["test_accuracy"])


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def on_page(found: list[dict[str, Any]]) -> list[list[Any]]:
    """The same for readers: several numbers in a column."""
    five = any(one["paper, first five"] is not None for one in found)
    three = f"best / final / mean of the last {LAST}"
    columns = ["network", "paper, best epoch, %", f"published log, %: {three}", f"ours, %: {three}", "difference"]
    columns += ["first five, best, %: paper / ours"] * five + ["epochs", "command", "machine", "time"]
    rows = [columns]
    for one in found:
        log = slashed(one["log, best"], one["log, final"], one[f"log, mean of the last {LAST}"])
        ours = slashed(one["best"], one["final"], one[f"mean of the last {LAST}"]) + f" (best in epoch {one['best epoch']})"
        apart = "" if one["difference"] is None else f"{one['difference']:+.2f} ({one['difference of']})"
        row = [one["network"], percent(one["paper (best epoch)"]), log, ours, apart]
        row += [slashed(one["paper, first five"], one["first five, best"])] * five
        row += [f"{one['epochs']} of {one['epochs of the recipe']}", f"`{one['command']}`", one["machine"]]
        rows.append([*row, duration(one["seconds"])])
    return rows


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def slashed(*values: float | None) -> str:
    return "-" if all(value is None for value in values) else " / ".join(map(percent, values))


def about(runs: list[Ran], o: Options) -> str:
    """What the numbers of a page are."""
    text = "The paper's accuracies are those of the best epoch, chosen on the test split; ours are best, final and a mean."
    if o.weights is not None:
        text += " Weights that were published, as they stood after the last epoch, are evaluated; nothing is trained."
    elif any(not ran.whole for ran in runs):
        text += " Runs that stop early follow the published schedule so far, and are compared at the same epoch of the log."
    return (CHECKED if o.check else "") + text


def beside(result: Result, others: tuple[Cited, ...]) -> Result:
    """With rows of what the paper cites."""
    assert result.table is not None, "made by `table`"

    def added(rows: Any, shown: bool) -> list[list[Any]]:
        cited = [[f"{one.name}, T = {one.T}", percent(one.accuracy) if shown else one.accuracy] for one in others]
        return [*rows, *([*row, *[None] * (len(rows[0]) - 2)] for row in cited)]

    said = f"{result.about} Rows without a number of ours are cited by the paper."
    rows, shown = added(result.rows, False), added(result.table, True)
    return dataclasses.replace(result, about=said, rows=rows, table=shown)


# Curves ------------------------------------------------------------------------------------------------------------------

OURS = {"train_loss": ("train_loss", 1), "train_acc1": ("train_accuracy", 100), "test_acc1": ("test_accuracy", 100)}


def curves(runs: list[Ran], logs: dict[str, Epochs]) -> "Figure":
    """Train loss, train and test accuracy by epoch: ours solid, or dotted where data was changed; published logs dashed."""
    figure, axes = panels(len(PANELS))
    longest = max(len(ran.lines) for ran in runs)
    for ax, (key, heading) in zip(axes, PANELS, strict=True):
        for i, ran in enumerate(runs):
            draw(ax, key, ran, logs.get(ran.arm.log or "", [])[:longest], i, few=longest < FEW)
        ax.set(xlabel="epoch", title=heading)
        ax.locator_params(axis="x", integer=True)
    legend_below(figure, axes[0], 3)
    return figure


def draw(ax: "Axes", key: str, ran: Ran, log: Epochs, i: int, *, few: bool) -> None:
    """A run's curve, and that of its log, in the colour of its network."""
    name, factor = OURS[key]
    kind = ran.arm.name.partition(",")[0]
    colour = COLOUR_OF.get(kind, COLOURS[i % len(COLOURS)])
    epochs, values = [line["epoch"] for line in ran.lines], [factor * line[name] for line in ran.lines]
    line = ax.plot(epochs, values, ":" if ran.arm.changes else "-", color=colour, linewidth=1, label=ran.arm.name)[0]
    if few:
        line.set(marker=MARK_OF.get(kind, MARKS[i % len(MARKS)]), markersize=3)
    if there := [(epoch["epoch"] + 1, epoch[key]) for epoch in log if key in epoch]:
        ax.plot(*zip(*there, strict=True), "--", color=colour, linewidth=0.8, label=f"{ran.arm.name}, published log")


# Claims ------------------------------------------------------------------------------------------------------------------


def best_of(runs: list[Ran]) -> dict[str, float]:
    return {ran.arm.name: 100 * ran.lines[best_epoch(ran)]["test_accuracy"] for ran in runs}


def near_paper(runs: list[Ran]) -> list[Claim]:
    """Every accuracy of the paper, within a point."""
    best = best_of(runs)
    return [
        Claim(
            f"{arm.name}: {arm.paper:.2f} %",
            abs(best[arm.name] - arm.paper) < 1,
            f"{best[arm.name]:.2f} % ({'best epoch' if ran.run else 'published weights'})",
        )
        for ran in runs
        if (arm := ran.arm).paper is not None
    ]


def ordered(says: str, values: dict[str, float]) -> Claim:
    """Numbers that fall from left to right."""
    falls = list(values.values()) == sorted(values.values(), reverse=True)
    return Claim(says, falls, ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
