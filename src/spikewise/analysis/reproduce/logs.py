"""Figures 3 and 9, drawn again from the published logs."""

import csv
from importlib import resources

from ..figures import COLOURS, panels
from .page import Claim, Clock, Options, Result

DEPTHS = (18, 34, 50, 101, 152)
PANELS = (("train_loss", "train loss"), ("train_acc1", "train accuracy, %"), ("test_acc1", "test accuracy, %"))


def published() -> dict[str, list[dict[str, float]]]:
    """The published curves by run: a dict per epoch, without what a log did not hold."""
    runs: dict[str, list[dict[str, float]]] = {}
    text = (resources.files(__package__) / "published_curves.csv").read_text()
    for row in csv.DictReader(text.splitlines()):
        numbers = {key: float(value) for key, value in row.items() if key != "run" and value}
        runs.setdefault(row["run"], []).append(numbers)
    return runs


def summary(runs: dict[str, list[dict[str, float]]]) -> list[list]:
    rows = []
    for name, epochs in runs.items():
        accuracies = [epoch["test_acc1"] for epoch in epochs]
        best = max(accuracies)
        last = accuracies[-min(10, len(accuracies)) :]
        rows.append([name, len(epochs), best, accuracies.index(best), accuracies[-1], sum(last) / len(last)])
    return [["run", "epochs", "best test accuracy, %", "in epoch", "final, %", "mean of the last 10, %"], *rows]


def fig3(_: Options) -> Result:
    """Fig. 3: train loss, train and test accuracy on ImageNet, from the published logs."""
    clock, runs = Clock(), published()
    chosen = {f"{kind}_resnet{depth}": runs[f"{kind}_resnet{depth}"] for kind in ("sew", "spiking") for depth in DEPTHS}
    figure, axes = panels(3, width=2.9)
    for ax, (key, heading) in zip(axes, PANELS, strict=True):
        for name, epochs in chosen.items():
            kind, depth = name.split("_resnet")
            colour = COLOURS[DEPTHS.index(int(depth)) + 1]
            style = "-" if kind == "sew" else "--"
            label = f"{'SEW' if kind == 'sew' else 'Spiking'}-{depth}"
            ax.plot(
                [e["epoch"] for e in epochs if key in e],
                [e[key] for e in epochs if key in e],
                style,
                color=colour,
                linewidth=0.9,
                label=label,
            )
        ax.set(xlabel="epoch", title=heading)
    axes[0].legend(fontsize=5, frameon=False, ncols=2, loc="center right", bbox_to_anchor=(1, 0.62))
    best = {name: max(epoch["test_acc1"] for epoch in epochs) for name, epochs in chosen.items()}
    sew, spiking = ([best[f"{kind}_resnet{depth}"] for depth in DEPTHS] for kind in ("sew", "spiking"))
    claims = [
        Claim(
            "SEW gets better with depth",
            sew == sorted(sew),
            ", ".join(f"{d}: {a:.2f}" for d, a in zip(DEPTHS, sew, strict=True)),
        ),
        Claim(
            "Spiking gets worse beyond 34 layers",
            spiking[1:] == sorted(spiking[1:], reverse=True),
            ", ".join(f"{d}: {a:.2f}" for d, a in zip(DEPTHS, spiking, strict=True)),
        ),
    ]
    about = "The authors' logs, drawn again; solid SEW ADD, dashed Spiking. The paper's accuracies are those of the best epoch."
    return Result(
        "fig3", "Fig. 3: training on ImageNet (published logs)", about, summary(chosen), claims, {"fig3": figure}, float(clock)
    )


def fig9(_: Options) -> Result:
    """Fig. 9: the SEW ADD curve on DVS128 Gesture, from the published log."""
    clock, runs = Clock(), published()
    chosen = {name: epochs for name, epochs in runs.items() if "dvs" in name}
    figure, axes = panels(3, width=2.9)
    for ax, (key, heading) in zip(axes, PANELS, strict=True):
        for (name, epochs), colour in zip(chosen.items(), COLOURS[1:], strict=False):
            ax.plot(
                [e["epoch"] for e in epochs if key in e],
                [e[key] for e in epochs if key in e],
                color=colour,
                linewidth=0.9,
                label=name,
            )
        ax.set(xlabel="epoch", title=heading)
    axes[0].legend(fontsize=5.5, frameon=False)
    accuracies = [epoch["test_acc1"] for epoch in chosen["dvsgesture-7b-sew-add"]]
    late = accuracies[-64:]
    claims = [
        Claim(
            "97.92 % on DVS128 Gesture",
            abs(max(accuracies) - 97.92) < 0.01,
            f"best {max(accuracies):.2f}, in epoch {accuracies.index(max(accuracies))}; "
            f"mean of the last 64 epochs {sum(late) / len(late):.2f}",
        ),
    ]
    about = (
        "The authors' logs, drawn again; only SEW ADD's were published. The paper's number is the best epoch's; it came once."
    )
    return Result(
        "fig9",
        "Fig. 9: training on event recordings (published logs)",
        about,
        summary(chosen),
        claims,
        {"fig9": figure},
        float(clock),
    )
