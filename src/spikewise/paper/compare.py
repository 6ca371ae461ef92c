"""Runs beside the paper and the published logs: tables, curves, and whether the paper's claims hold."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..analysis.figures import COLOUR_OF, COLOURS, MARK_OF, MARKS, legend_below, panels
from ..durations import format_duration
from .experiments import Experiment
from .options import Options
from .page import Claim, Result
from .published_logs import PANELS, Epochs, read_published_logs
from .runs import ExperimentRun, experiment_environment, run_experiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_LAST_EPOCHS = 10  # of which the mean is given
MAX_MARKED_EPOCHS = 15  # longer curves have no marks
CHECK_NOTICE = "**A check on synthetic data. It shows that everything runs; its numbers mean nothing.** "
LAST = f"mean of the last {NUM_LAST_EPOCHS}"
Claims = Callable[[list[ExperimentRun]], list[Claim]]


def compare_with_paper(name: str, title: str, experiments: tuple[Experiment, ...], o: Options, claims: Claims) -> Result:
    """Run the experiments and compare them with paper and logs. Claims are judged on complete runs only."""
    logs = read_published_logs()
    with experiment_environment(experiments, o) as options:
        runs = [run_experiment(experiment, options) for experiment in experiments]
    numbers = [compare_run(run, logs.get(run.experiment.log or "", [])) for run in runs]
    rows = [list(numbers[0]), *(list(row.values()) for row in numbers)]
    trained = [run for run in runs if run.trained is None]  # a converted network has no curve
    figures = {name: plot_curves(trained, logs)} if trained and o.weights is None else {}
    judged = claims(runs) if is_final(runs, o) else []
    return Result(name, title, page_text(runs, o), rows, judged, figures, page_rows(numbers), o.device)


def is_final(runs: list[ExperimentRun], o: Options) -> bool:
    """Whether the numbers are those that the paper's claims are about."""
    return not o.check and all(run.is_complete or run.run is None for run in runs)


def compare_run(run: ExperimentRun, log: Epochs) -> dict[str, Any]:
    """An experiment's numbers by column, accuracies in percent; None where there is none."""
    experiment = run.experiment
    ours = [100 * line["test_accuracy"] for line in run.lines]
    published = [epoch["test_acc1"] for epoch in log]
    best, (gap, gap_to) = best_epoch(run), difference(run, ours, published)
    return {
        "network": experiment.name,
        "T": experiment.steps,
        "paper (best epoch)": experiment.paper_top1,
        "paper, first five": experiment.paper_top5,
        "log, best": max(published, default=None),
        "log, final": published[-1] if published else None,
        f"log, {LAST}": mean(published[-NUM_LAST_EPOCHS:]),
        "best": ours[best],
        "best epoch": run.lines[best]["epoch"],
        "final": ours[-1],
        LAST: mean(ours[-NUM_LAST_EPOCHS:]),
        "first five, best": max(100 * line["test_correct5"] / line["test_total"] for line in run.lines),
        "difference": gap,
        "difference of": gap_to,
        "epochs": run.done,
        "epochs of the recipe": run.epochs,
        "seconds": round(run.seconds, 1),
        "command": run.command,
        "machine": run.machine,
    }


def difference(run: ExperimentRun, ours: list[float], published: list[float]) -> tuple[float | None, str]:
    """The difference of accuracies from what the run can be compared with, and what that is."""
    if run.trained is not None:  # converted, the last epoch's
        paper = run.experiment.paper_top1
        return (ours[-1] - paper, "the converted last epoch") if run.is_complete and paper is not None else (None, "")
    if run.run is None:  # the published weights are the last epoch's
        return (ours[-1] - published[-1], "the log's last epoch") if published else (None, "")
    if run.is_complete and run.experiment.paper_top1 is not None:
        return max(ours) - run.experiment.paper_top1, "best epochs"
    if len(ours) <= len(published):
        return ours[-1] - published[len(ours) - 1], f"the log in epoch {len(ours)}"
    return None, ""


def best_epoch(run: ExperimentRun) -> int:
    return max(range(len(run.lines)), key=lambda i: run.lines[i]["test_accuracy"])


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def page_rows(numbers: list[dict[str, Any]]) -> list[list[Any]]:
    """The same for readers: several numbers in a column."""
    with_top5 = any(row["paper, first five"] is not None for row in numbers)
    rows = []
    for row in numbers:
        gap = "" if row["difference"] is None else f"{row['difference']:+.2f} ({row['difference of']})"
        ours = join_percents(row["best"], row["final"], row[LAST])
        page_row = {
            "network": row["network"],
            "T": row["T"],
            "paper, best epoch, %": percent(row["paper (best epoch)"]),
            f"published log, %: best / final / {LAST}": join_percents(row["log, best"], row["log, final"], row[f"log, {LAST}"]),
            f"ours, %: best / final / {LAST}": f"{ours} (best in epoch {row['best epoch']})",
            "difference": gap,
            "first five, best, %: paper / ours": join_percents(row["paper, first five"], row["first five, best"]),
            "epochs": f"{row['epochs']} of {row['epochs of the recipe']}",
            "command": f"`{row['command']}`",
            "machine": row["machine"],
            "time": format_duration(row["seconds"]),
        }
        if not with_top5:
            del page_row["first five, best, %: paper / ours"]
        rows.append(page_row)
    return [list(rows[0]), *(list(row.values()) for row in rows)]


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def join_percents(*values: float | None) -> str:
    return "-" if all(value is None for value in values) else " / ".join(map(percent, values))


def page_text(runs: list[ExperimentRun], o: Options) -> str:
    """What the numbers of a page are."""
    text = "The paper's accuracies are those of the best epoch, chosen on the test split; ours are best, final and a mean."
    if o.weights is not None:
        text += " Weights that were published, as they stood after the last epoch, are evaluated; nothing is trained."
    elif any(not run.is_complete for run in runs):
        text += " Runs that stop early follow the published schedule so far, and are compared at the same epoch of the log."
    return (CHECK_NOTICE if o.check else "") + text


def with_cited_rows(result: Result, cited: tuple[Experiment, ...]) -> Result:
    """The same with rows of what the paper cites."""
    assert result.table is not None, "made by `compare_with_paper`"

    def extended(rows: Any, show: Callable[[float], Any]) -> list[list[Any]]:
        empty = [None] * (len(rows[0]) - 3)
        return [*rows, *([other.name, other.steps, show(other.paper_top1 or 0.0), *empty] for other in cited)]

    text = f"{result.text} Rows without a number of ours are cited by the paper."
    return dataclasses.replace(result, text=text, rows=extended(result.rows, float), table=extended(result.table, percent))


# Curves ------------------------------------------------------------------------------------------------------------------

METRIC_NAMES = {"train_loss": ("train_loss", 1), "train_acc1": ("train_accuracy", 100), "test_acc1": ("test_accuracy", 100)}


def plot_curves(runs: list[ExperimentRun], logs: dict[str, Epochs]) -> "Figure":
    """Loss and accuracy by epoch: ours solid, or dotted where data was changed; published logs dashed."""
    figure, axes = panels(len(PANELS))
    longest = max(len(run.lines) for run in runs)
    for ax, (key, title) in zip(axes, PANELS, strict=True):
        name, factor = METRIC_NAMES[key]
        for i, run in enumerate(runs):
            experiment, kind = run.experiment, run.experiment.name.partition(",")[0]
            colour = COLOUR_OF.get(kind, COLOURS[i % len(COLOURS)])
            epochs, values = [line["epoch"] for line in run.lines], [factor * line[name] for line in run.lines]
            style: dict[str, Any] = {"linestyle": ":" if experiment.data_overrides else "-", "color": colour, "linewidth": 1}
            mark = MARK_OF.get(kind, MARKS[i % len(MARKS)]) if longest < MAX_MARKED_EPOCHS else None
            ax.plot(epochs, values, marker=mark, markersize=3, label=experiment.name, **style)
            log = logs.get(experiment.log or "", [])[:longest]
            if points := [(epoch["epoch"] + 1, epoch[key]) for epoch in log if key in epoch]:
                label = f"{experiment.name}, published log"
                ax.plot(*zip(*points, strict=True), "--", color=colour, linewidth=0.8, label=label)
        ax.set(xlabel="epoch", title=title)
        ax.locator_params(axis="x", integer=True)
    legend_below(figure, axes[0], 3)
    return figure


# Claims ------------------------------------------------------------------------------------------------------------------


def best_accuracies(runs: list[ExperimentRun]) -> dict[str, float]:
    return {run.experiment.name: 100 * run.lines[best_epoch(run)]["test_accuracy"] for run in runs}


def claim_near_paper(runs: list[ExperimentRun]) -> list[Claim]:
    """Every accuracy of the paper, within a point."""
    claims = []
    for run, best in zip(runs, best_accuracies(runs).values(), strict=True):
        name, paper = run.experiment.name, run.experiment.paper_top1
        if paper is not None:
            how = "converted" if run.trained is not None else "best epoch" if run.run else "published weights"
            evidence = f"{best:.2f} % ({how})"
            claims.append(Claim(f"{name}: {paper:.2f} %", abs(best - paper) < 1, evidence))
    return claims


def claim_decreasing(statement: str, values: dict[str, float]) -> Claim:
    """Numbers that fall from left to right."""
    falls = list(values.values()) == sorted(values.values(), reverse=True)
    return Claim(statement, falls, ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
