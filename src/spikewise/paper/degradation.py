"""The paper's first claim on real data: deeper plain and Spiking ResNets train worse, SEW ResNets do not."""

import dataclasses
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from ..analysis.figures import COLOUR_OF, MARK_OF, legend_below, panels
from ..config import Config, Model
from ..recipes import RECIPES
from .ledger import add_run, read_ledger, runs_of
from .options import Options
from .page import Claim, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Family(NamedTuple):
    """Networks that differ in depth alone."""

    name: str
    prefix: str
    options: dict[str, Any]
    depths: tuple[int, ...] = (20, 56, 110)


FAMILIES = (
    Family("Plain", "plain", {}),
    Family("Spiking", "spiking", {"zero_init": True}),
    Family("SEW ADD", "sew", {"connect": "ADD"}),
    Family("MS", "ms", {}),
    Family("SEW AND", "sew", {"connect": "AND"}, (56,)),
    Family("SEW IAND", "sew", {"connect": "IAND"}, (56,)),
)
DEPTHS = (20, 56, 110)


class Cell(NamedTuple):
    """A network of the grid and what its runs reached: one number per seed, losses of training, accuracies in percent."""

    family: Family
    depth: int
    command: str
    final_loss: list[float]
    best_loss: list[float]
    train_accuracy: list[float]
    accuracy: list[float]


def degradation(o: Options, *, data_name: str) -> Result:
    """Degradation with depth: Plain, Spiking, SEW and MS networks of 20, 56 and 110 layers.

    Every finished run is a line of NAME.jsonl in the folder of the pages, and is not made again.
    """
    assert o.runs is not None, "the caller says where"
    name = f"degradation-{data_name}"
    ledger, configs = o.runs.parent / f"{name}.jsonl", grid(data_name, o)
    for _, _, config in () if o.from_ledger else configs:
        if not any(line["config"]["seed"] == o.seed for line in runs_of(read_ledger(ledger), config)):
            run = o.runs / name / "-".join([config.model.name, config.model.connect, str(o.seed)])
            add_run(ledger, run, config, device=o.device, workers=o.workers)
    lines = read_ledger(ledger)
    cells = [make_cell(family, depth, runs) for family, depth, config in configs if (runs := runs_of(lines, config))]
    if not cells:
        raise ValueError(f"{ledger} has no run of this grid; leave out --from-ledger, to train")
    title = f"Degradation with depth: {data_name}"
    return Result(name, title, page_text(cells, lines), table(cells), claims(cells), {name: plot(cells)}, device=o.device)


def grid(data_name: str, o: Options) -> list[tuple[Family, int, Config]]:
    """The config of each cell, shallow networks first."""
    recipe = RECIPES["degradation"]()
    data = dataclasses.replace(recipe.data, name=data_name, root=o.data_root)
    return [
        (family, depth, dataclasses.replace(recipe, seed=o.seed, data=data, model=family_model(recipe.model, family, depth)))
        for depth in DEPTHS
        for family in FAMILIES
        if depth in family.depths
    ]


def family_model(model: Model, family: Family, depth: int) -> Model:
    return dataclasses.replace(model, name=f"{family.prefix}_resnet{depth}", **family.options)


def make_cell(family: Family, depth: int, runs: list[dict[str, Any]]) -> Cell:
    losses = [[epoch["train_loss"] for epoch in run["epochs"]] for run in runs]
    return Cell(
        family,
        depth,
        command=runs[0]["command"],
        final_loss=[loss[-1] for loss in losses],
        best_loss=[min(loss) for loss in losses],
        train_accuracy=[100 * run["epochs"][-1]["train_accuracy"] for run in runs],
        accuracy=[100 * run["test_accuracy"] for run in runs],
    )


def page_text(cells: list[Cell], lines: list[dict[str, Any]]) -> str:
    missing = sum(len(family.depths) for family in FAMILIES) - len(cells)
    machines = "; ".join(dict.fromkeys(line["machine"] for line in lines))
    return (
        "Residual networks for small images, of half the published width, T = 4: 12,000 training images, drawn anew for each "
        "seed, 8 epochs, the same recipe for every cell. Accuracies are those of the last epoch on all test images. "
        "Numbers are means over seeds ± the standard deviation. Spiking ResNets start from zero init, as published. "
        f"{len(lines)} runs, {sum(line['seconds'] for line in lines) / 3600:.1f} hours of one thread, on {machines}."
        + (f" {missing} cells of the grid are still to be run." if missing else "")
    )


def spread(values: list[float], digits: int) -> str:
    """Mean and standard deviation; of one run, its number alone."""
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def table(cells: list[Cell]) -> list[list[Any]]:
    head = [
        "network",
        "depth",
        "seeds",
        "train loss, final",
        "train loss, best",
        "train accuracy, %",
        "test accuracy, %",
        "command",
    ]
    return [
        head,
        *(
            [
                cell.family.name,
                cell.depth,
                len(cell.accuracy),
                spread(cell.final_loss, 3),
                spread(cell.best_loss, 3),
                spread(cell.train_accuracy, 1),
                spread(cell.accuracy, 1),
                f"`{cell.command}`",
            ]
            for cell in cells
        ),
    ]


def claims(cells: list[Cell]) -> list[Claim]:
    """Whether 110 layers train worse or better than 20; of families whose runs of both are there."""
    by_place = {(cell.family.name, cell.depth): cell for cell in cells}
    judged = []
    for name, word in (("Plain", "worse"), ("Spiking", "worse"), ("SEW ADD", "no worse")):
        shallow, deep = (by_place.get((name, depth)) for depth in (DEPTHS[0], DEPTHS[-1]))
        if shallow and deep:
            worse = mean(deep.final_loss) > mean(shallow.final_loss)
            evidence = f"final train loss {spread(shallow.final_loss, 3)} with 20 layers, {spread(deep.final_loss, 3)} with 110"
            judged.append(Claim(f"{name}: trains {word} with depth", worse == (word == "worse"), evidence))
    return judged


def plot(cells: list[Cell]) -> "Figure":
    """Final train loss and test accuracy against depth; bars are the standard deviation over seeds."""
    figure, axes = panels(2)
    for ax, field, label in zip(axes, ("final_loss", "accuracy"), ("train loss, last epoch", "test accuracy, %"), strict=True):
        for family in FAMILIES:
            own = [cell for cell in cells if cell.family == family]
            values = [getattr(cell, field) for cell in own]
            if not own:
                continue
            ax.errorbar(
                [cell.depth for cell in own],
                [mean(numbers) for numbers in values],
                [stdev(numbers) if len(numbers) > 1 else 0 for numbers in values],
                color=COLOUR_OF[family.name],
                marker=MARK_OF[family.name],
                markersize=4,
                linewidth=1,
                capsize=2,
                label=family.name,
            )
        ax.set(xlabel="layers", title=label, xticks=DEPTHS)
    legend_below(figure, axes[0], 3)
    return figure
