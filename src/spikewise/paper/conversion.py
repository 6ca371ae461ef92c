"""Converted networks beside directly trained ones on real data: how many time steps each of them needs (Tab. 3)."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..analysis.figures import COLOURS, MARKS, legend_below, panels
from ..config import Config, Model
from ..conversion import calibration_samples, convert_ann, score_by_steps
from ..engine.build import choose_device, load_run_data
from ..engine.evaluate import evaluate_network, load_run
from ..models.network import Network
from ..models.weights import save_pretrained
from ..recipes import RECIPES
from .degradation import spread
from .experiments import Conversion
from .ledger import add_line, add_run, finish_run, read_ledger, runs_of
from .options import Options
from .page import Claim, Result, describe_this_machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = tuple(2**power for power in range(2, 13))  # 4 to 4,096
TEST_SAMPLES = {"digits": 0, "fashion-mnist": 1_000, "cifar10": 1_000}  # scored at every number of steps; 0: all
DIRECT_STEPS, HYBRID_STEPS, HYBRID_EPOCHS = 4, 16, 4


CONVERSIONS = {
    "largest activation": Conversion("max"),
    "percentile 99.9": Conversion("percentile"),
    "Spike-Norm": Conversion("spike-norm"),
    "Spike-Norm, hard reset": Conversion("spike-norm", soft_reset=False),
}
HYBRID_FROM = "percentile 99.9"  # what is trained on


class Row(NamedTuple):
    """A network and what its runs reached: by number of time steps (0: no spikes), in percent, one number per seed."""

    name: str
    command: str
    accuracy: dict[int, list[float]]


def conversion(o: Options, *, data_name: str) -> Result:
    """Accuracy against time steps: converted ResNet-20, trained on by STDB, and SEW ResNet-20 trained directly.

    Every finished cell is a line of NAME.jsonl in the folder of the pages, and is not made again.
    """
    assert o.runs is not None, "the caller says where"
    name = f"conversion-{data_name}"
    ledger, runs = o.runs.parent / f"{name}.jsonl", o.runs / name
    ann, sew, hybrid = configs(data_name, o, runs)
    if not o.from_ledger:
        make_cells(ledger, runs, (ann, sew, hybrid), o)
    lines = read_ledger(ledger)
    rows = [row for row in collect_rows(lines, ann, sew, hybrid) if row.accuracy]
    if not rows:
        raise ValueError(f"{ledger} has no cell of this grid; leave out --from-ledger, to train")
    title = f"Conversion and direct training: {data_name}"
    return Result(
        name, title, page_text(data_name, lines, len(rows)), table(rows), claims(rows), {name: plot(rows)}, device=o.device
    )


def configs(data_name: str, o: Options, runs: Path) -> tuple[Config, Config, Config]:
    """What is trained: the ReLU network, its SEW twin, and the converted one, from the weights that conversion writes."""
    recipe = RECIPES[data_name]()
    data = dataclasses.replace(recipe.data, root=o.data_root, test_samples=TEST_SAMPLES[data_name])
    base = dataclasses.replace(recipe, seed=o.seed, data=data)
    ann = dataclasses.replace(base, model=Model(name="resnet20", width=base.model.width))
    sew = dataclasses.replace(base, model=dataclasses.replace(base.model, T=DIRECT_STEPS))
    spiking = dataclasses.replace(base.model, name="converted_resnet20", T=HYBRID_STEPS, neuron="STDB", v_reset=None)
    optim = dataclasses.replace(base.optim, lr=base.optim.lr / 10, epochs=HYBRID_EPOCHS, precision="float32")
    weights = str(converted_folder(runs, o.seed, CONVERSIONS[HYBRID_FROM]))
    return ann, sew, dataclasses.replace(base, model=spiking, optim=optim, weights=weights)


def converted_folder(runs: Path, seed: int, how: Conversion) -> Path:
    return runs / f"converted-{how.name}-{seed}"


def make_cells(ledger: Path, runs: Path, trained: tuple[Config, Config, Config], o: Options) -> None:
    """Train, convert and score what has no line yet."""
    ann, sew, hybrid = trained

    def has_line(config: Config, how: Conversion | None = None) -> bool:
        return any(line["config"]["seed"] == o.seed for line in runs_of(lines_of(read_ledger(ledger), how), config))

    def add(name: str, config: Config) -> None:
        if not has_line(config):
            add_run(ledger, runs / f"{name}-{o.seed}", config, device=o.device, workers=o.workers)

    add("ann", ann)
    add("sew", sew)
    for how in CONVERSIONS.values():
        if not has_line(ann, how):
            add_conversion(ledger, runs, ann, how, o)
    if not has_line(hybrid) and not converted_folder(runs, o.seed, CONVERSIONS[HYBRID_FROM]).exists():
        convert(runs, ann, CONVERSIONS[HYBRID_FROM], o)  # its line may be from another machine
    add("hybrid", hybrid)


def add_conversion(ledger: Path, runs: Path, ann: Config, how: Conversion, o: Options) -> None:
    """Convert the trained ReLU network, write its weights, and add the line of what it reaches by time steps."""
    start, where = time.perf_counter(), choose_device(o.device)
    net, twin = convert(runs, ann, how, o)
    test = load_run_data(ann, "test")
    numbers = {
        "conversion": how._asdict(),
        "ann_accuracy": evaluate_network(net, test, where).accuracy,
        "accuracy": {str(steps): score.accuracy for steps, score in score_by_steps(twin, test, STEPS, where).items()},
        "test_total": len(test.labels),
    }
    seconds, machine = time.perf_counter() - start, describe_this_machine(o.device)
    add_line(ledger, numbers, ann, command=how.command, seconds=seconds, machine=machine)


def convert(runs: Path, ann: Config, how: Conversion, o: Options) -> tuple[Network, Network]:
    """The ReLU network, trained if its run is not here, and the spiking one, whose weights are written."""
    run, where = runs / f"ann-{ann.seed}", choose_device(o.device)
    finish_run(run, ann, device=o.device, workers=o.workers)
    net = load_run(run, data_root=o.data_root)[0].to(where)
    images = calibration_samples(ann, how.samples).to(where)
    twin = convert_ann(net, images, how.method, soft_reset=how.soft_reset, T=STEPS[-1])
    save_pretrained(twin, converted_folder(runs, ann.seed, how))
    return net, twin


def lines_of(lines: list[dict[str, Any]], how: Conversion | None) -> list[dict[str, Any]]:
    """The lines of a conversion; None: of trained networks."""
    told = None if how is None else how._asdict()
    return [line for line in lines if line.get("conversion") == told]


def collect_rows(lines: list[dict[str, Any]], ann: Config, sew: Config, hybrid: Config) -> list[Row]:
    rows = []
    for name, config, steps in (
        ("ReLU network", ann, 0),
        ("SEW ADD, trained directly", sew, DIRECT_STEPS),
        (f"{HYBRID_FROM}, then STDB for {HYBRID_EPOCHS} epochs", hybrid, HYBRID_STEPS),
    ):
        runs = runs_of(lines_of(lines, None), config)
        accuracy = {steps: [100 * run["test_accuracy"] for run in runs]} if runs else {}
        rows.append(Row(name, runs[0]["command"] if runs else "", accuracy))
    for name, how in CONVERSIONS.items():
        runs = runs_of(lines_of(lines, how), ann)
        accuracy = {steps: [100 * run["accuracy"][str(steps)] for run in runs] for steps in STEPS} if runs else {}
        rows.append(Row(f"converted: {name}", how.command, accuracy))
    return rows


def page_text(data_name: str, lines: list[dict[str, Any]], num_rows: int) -> str:
    scored = "all test images" if not TEST_SAMPLES[data_name] else f"{TEST_SAMPLES[data_name]:,} test images, drawn by the seed"
    missing = 3 + len(CONVERSIONS) - num_rows
    machines = "; ".join(dict.fromkeys(line["machine"] for line in lines))
    return (
        f"ResNet-20 with ReLU, converted (E18): accuracy on {scored} after so many time steps, beside SEW ResNet-20 trained by "
        f"the same recipe at T = {DIRECT_STEPS}, and the converted network trained on with STDB (E19) at T = {HYBRID_STEPS}; "
        "trained networks are scored on all test images. Thresholds are balanced on "
        f"{Conversion('max').samples} training images. Means over seeds ± the standard deviation. {len(lines)} cells, "
        f"{sum(line['seconds'] for line in lines) / 3600:.1f} hours, on {machines}."
        + (f" {missing} rows are still to be run." if missing else "")
    )


def table(rows: list[Row]) -> list[list[Any]]:
    """A row per network, a column per number of time steps; accuracies in percent."""
    return [
        ["network", "seeds", "no spikes", *(f"T = {steps:,}" for steps in STEPS), "command"],
        *(
            [
                row.name,
                max(map(len, row.accuracy.values())),
                *(spread(row.accuracy[steps], 1) if steps in row.accuracy else None for steps in (0, *STEPS)),
                f"`{row.command}`",
            ]
            for row in rows
        ),
    ]


def claims(rows: list[Row]) -> list[Claim]:
    """That conversion needs many times the time steps, and ends near the ReLU network's accuracy; where all of it is there."""
    means = {row.name: {steps: sum(values) / len(values) for steps, values in row.accuracy.items()} for row in rows}
    ann, sew = means.get("ReLU network"), means.get("SEW ADD, trained directly")
    converted = {name: reached for name, reached in means.items() if name.startswith("converted: ")}
    if not (ann and sew and converted):
        return []
    direct, relu = sew[DIRECT_STEPS], ann[0]
    needs = {name: next((steps for steps in STEPS if reached[steps] >= direct), None) for name, reached in converted.items()}
    told = "; ".join(f"{name.removeprefix('converted: ')}: T = {steps or 'never'}" for name, steps in needs.items())
    best = max(reached[STEPS[-1]] for reached in converted.values())
    return [
        Claim(
            f"conversion needs many times the time steps of SEW at T = {DIRECT_STEPS}",
            all(steps is None or steps > 8 * DIRECT_STEPS for steps in needs.values()),
            f"SEW reaches {direct:.1f} %; converted networks as much from {told}",
        ),
        Claim(
            "with thousands of time steps a converted network is as good as its ReLU network",
            abs(best - relu) < 1,
            f"{best:.1f} % at T = {STEPS[-1]:,}, ReLU {relu:.1f} %",
        ),
    ]


def plot(rows: list[Row]) -> "Figure":
    """Accuracy against time steps; the ReLU network's as a line across."""
    figure, (ax,) = panels(1, width=5.0, height=2.8)
    for number, row in enumerate(rows):
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        means = {steps: sum(values) / len(values) for steps, values in row.accuracy.items()}
        if 0 in means:
            ax.axhline(means[0], color=colour, linewidth=0.8, linestyle="--", label=row.name)
        else:
            ax.plot(list(means), list(means.values()), color=colour, marker=mark, markersize=4, linewidth=1, label=row.name)
    ax.set_xscale("log", base=2)
    ax.set(xlabel="time steps", title="test accuracy, %", xticks=STEPS, xticklabels=[str(steps) for steps in STEPS])
    legend_below(figure, ax, 2)
    return figure
