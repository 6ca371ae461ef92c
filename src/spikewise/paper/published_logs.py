"""Figures 3 and 9, drawn again from the published logs."""

import csv
from importlib import resources
from typing import TYPE_CHECKING, Any

from ..analysis.figures import COLOURS, legend_below, panels
from .experiments import CIFAR10_DVS, DVS_GESTURE, PAPER_IMAGENET
from .options import Options
from .page import Claim, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Epochs = list[dict[str, float]]  # of a run; they count from 0
DEPTHS = (18, 34, 50, 101, 152)
PANELS = (("train_loss", "train loss"), ("train_acc1", "train accuracy, %"), ("test_acc1", "test accuracy, %"))
PAPER = {f"{kind}_resnet{depth}": accuracy for (kind, depth), (accuracy, _) in PAPER_IMAGENET.items()} | {
    experiment.log: experiment.paper_top1 for experiment in (DVS_GESTURE[0], CIFAR10_DVS)
}
PAGE_TEXT = "The authors' logs, drawn again. The paper's accuracies are those of the best epoch, chosen on the test split. "


def read_published_logs() -> dict[str, Epochs]:
    """The published curves by run: a dict per epoch, of those values that the log holds."""
    runs: dict[str, Epochs] = {}
    text = (resources.files(__package__) / "published_curves.csv").read_text()
    for row in csv.DictReader(text.splitlines()):
        numbers = {key: float(value) for key, value in row.items() if key != "run" and value}
        runs.setdefault(row["run"], []).append(numbers)
    return runs


def log_of_recipe(recipe: str) -> str | None:
    """The name of the published log of a recipe; None where none was published."""
    imagenet = {f"imagenet/{kind}-resnet{depth}": f"{kind}_resnet{depth}" for kind in ("sew", "spiking") for depth in DEPTHS}
    events = {experiment.recipe: experiment.log for experiment in (*DVS_GESTURE, CIFAR10_DVS)}
    return (imagenet | events).get(recipe)


def log_table(runs: dict[str, Epochs]) -> list[list]:
    rows = []
    for name, epochs in runs.items():
        accuracies = [epoch["test_acc1"] for epoch in epochs]
        best, paper, last = max(accuracies), PAPER.get(name), accuracies[-10:]
        gap = None if paper is None else round(best - paper, 2) + 0.0  # no -0
        mean = round(sum(last) / len(last), 2)
        rows.append([name, paper, round(best, 2), gap, accuracies.index(best) + 1, round(accuracies[-1], 2), mean, len(epochs)])
    columns = ["run", "paper (best epoch), %", "published log: best, %", "difference", "in epoch"]
    return [[*columns, "final, %", "mean of the last 10, %", "epochs"], *rows]


def plot_logs(runs: dict[str, Epochs], styles: dict[str, dict[str, Any]], columns: int) -> "Figure":
    """Curves of runs by epoch, each in its style."""
    figure, axes = panels(len(PANELS))
    for ax, (key, title) in zip(axes, PANELS, strict=True):
        for name, style in styles.items():
            points = [(epoch["epoch"] + 1, epoch[key]) for epoch in runs[name] if key in epoch]
            ax.plot(*zip(*points, strict=True), linewidth=0.9, **style)
        ax.set(xlabel="epoch", title=title)
    legend_below(figure, axes[0], columns)
    return figure


def fig3(o: Options) -> Result:
    """Fig. 3: train loss, train and test accuracy on ImageNet, from the published logs."""
    runs = read_published_logs()
    styles = {
        f"{kind}_resnet{depth}": {"color": colour, "linestyle": line, "label": f"{title}-{depth}"}
        for depth, colour in zip(DEPTHS, COLOURS[1:], strict=False)
        for kind, title, line in (("sew", "SEW", "-"), ("spiking", "Spiking", "--"))
    }
    best = {name: max(epoch["test_acc1"] for epoch in runs[name]) for name in styles}
    loss = {name: runs[name][-1]["train_loss"] for name in styles}
    sew, spiking, losses = (
        {depth: values[f"{kind}_resnet{depth}"] for depth in DEPTHS}
        for kind, values in (("sew", best), ("spiking", best), ("sew", loss))
    )
    claims = [
        Claim("SEW gets better with depth", is_increasing(list(sew.values())), format_by_depth(sew)),
        Claim("its train loss falls with depth", is_increasing([-loss for loss in losses.values()]), format_by_depth(losses)),
        Claim("Spiking gets worse with depth", is_increasing([-value for value in spiking.values()]), format_by_depth(spiking)),
    ]
    text = f"{PAGE_TEXT}Solid SEW ADD, dashed Spiking."
    title, figure = "Fig. 3: training on ImageNet (published logs)", plot_logs(runs, styles, len(DEPTHS))
    table = log_table({name: runs[name] for name in sorted(styles, key=lambda name: name.startswith("spiking"))})
    return Result("fig3", title, text, table, claims, {"fig3": figure})


def is_increasing(values: list[float]) -> bool:
    return values == sorted(values)


def format_by_depth(values: dict[int, float]) -> str:
    return ", ".join(f"{depth}: {value:.2f}" for depth, value in values.items())


def fig9(o: Options) -> Result:
    """Fig. 9: the SEW ADD curve on DVS128 Gesture, and that on CIFAR10-DVS, from the published logs."""
    runs = read_published_logs()
    styles = {
        "dvsgesture-7b-sew-add": {"color": COLOURS[1], "label": "SEW ADD on DVS128 Gesture"},
        "cifar10dvs-sew-add": {"color": COLOURS[2], "linestyle": "--", "label": "SEW ADD on CIFAR10-DVS"},
    }
    accuracies = [epoch["test_acc1"] for epoch in runs["dvsgesture-7b-sew-add"]]
    best, late = max(accuracies), accuracies[-64:]
    evidence = f"best {best:.2f}, once, in epoch {accuracies.index(best) + 1}; mean of the last 64 {sum(late) / len(late):.2f}"
    claims = [Claim("97.92 % on DVS128 Gesture", abs(best - 97.92) < 0.01, evidence)]
    text = (
        f"{PAGE_TEXT}Of the figure's five networks only the log of SEW ADD was published; "
        "`spikewise reproduce tab4` trains all."
    )
    title, figure = "Fig. 9: training on event recordings (published logs)", plot_logs(runs, styles, len(styles))
    return Result("fig9", title, text, log_table({name: runs[name] for name in styles}), claims, {"fig9": figure})
