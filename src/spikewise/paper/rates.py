"""Figures 4 and 11: firing rates in the blocks of trained networks."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..analysis.figures import COLOUR_OF, COLOURS, MARK_OF, MARKS, legend_below, panels
from ..engine.build import choose_device, load_data
from ..engine.evaluate import load_run
from ..engine.loader import EvalBatches, iterate_batches
from ..models.recorder import BlockActivity, firing_rates
from .compare import CHECK_NOTICE, is_final
from .experiments import DVS_GESTURE, FIG4, Experiment
from .options import Options
from .page import Claim, Result
from .runs import ExperimentRun, build_config, experiment_environment, load_published, run_experiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCHES, SAMPLES = 16, 8  # of the test split
Rates = dict[str, dict[str, BlockActivity]]  # by network and block


def fig4(o: Options) -> Result:
    """Fig. 4: firing rates of A in SEW ResNet-18, 34 and 50 trained on ImageNet."""

    def claims(rates: Rates) -> list[Claim]:
        branches = {name: [block.branch for block in blocks.values()] for name, blocks in rates.items()}
        overall = {name: max(values) for name, values in branches.items()}
        last_two = {name: max(values[-2:]) for name, values in branches.items()}
        return [
            Claim("rates of A are at most 0.25", max(overall.values()) <= 0.25, format_rates(overall)),
            Claim("almost zero in the last two blocks", max(last_two.values()) < 0.05, format_rates(last_two)),
        ]

    return rates_page("fig4", "Fig. 4: firing rates of SEW blocks on ImageNet", FIG4, o, claims, ("branch",))


def fig11(o: Options) -> Result:
    """Fig. 11: firing rates of A and O in the blocks of the 7B networks trained on DVS128 Gesture."""

    def claims(rates: Rates) -> list[Claim]:
        means = {name: sum(block.output for block in blocks.values()) / len(blocks) for name, blocks in rates.items()}
        statement = "blocks of SEW AND have the lowest rates, those of SEW IAND higher ones"
        return [Claim(statement, min(means, key=means.__getitem__) == "SEW AND", format_rates(means))]

    title = "Fig. 11: firing rates of 7B networks on DVS128 Gesture"
    return rates_page("fig11", title, DVS_GESTURE, o, claims, ("branch", "output"))


def format_rates(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def rates_page(
    name: str,
    title: str,
    experiments: tuple[Experiment, ...],
    o: Options,
    claims: Callable[[Rates], list[Claim]],
    quantities: tuple[str, ...],
) -> Result:
    """Firing rates by block over test samples, of networks that are trained here, or of published weights."""
    rates: Rates = {}
    runs: list[ExperimentRun] = []
    rows: list[list[Any]] = []
    with experiment_environment(experiments, o) as options:
        for experiment in experiments:
            run = None if o.weights is not None else run_experiment(experiment, options)
            network, blocks = experiment.name, measure_rates(experiment, run, options)
            epochs = "published weights" if run is None else f"{len(run.lines)} of {run.epochs}"
            command = f"not trained: {experiment.weights}" if run is None else run.command
            rows += [[network, label, b.branch, b.output, b.max_value, epochs, command] for label, b in blocks.items()]
            rates[network] = blocks
            runs += [] if run is None else [run]
    rows = [["network", "block", "rate of A", "rate of O", "largest O", "epochs", "command"], *rows]
    text = (
        f"{CHECK_NOTICE if o.check else ''}Means over {BATCHES} batches of {SAMPLES} test samples. The paper gives its numbers "
        "as curves only. Open triangles: blocks that change the shape."
    )
    judged = claims(rates) if is_final(runs, o) else []
    table = [row[:-1] for row in rows]
    return Result(name, title, text, rows, judged, {name: plot_rates(rates, quantities)}, table, o.device)


def measure_rates(experiment: Experiment, run: ExperimentRun | None, o: Options) -> dict[str, BlockActivity]:
    """Firing rates of a trained network, or of published weights."""
    where, config = choose_device(o.device), build_config(experiment, o)
    if run is None or run.run is None:
        assert o.weights is not None, "no run: published weights"
        net = load_published(experiment, o.weights, config, check=o.check)
    else:
        net = load_run(run.run, data_root=o.data_root)[0]
    test = EvalBatches(load_data(config, "test"), SAMPLES)
    return firing_rates(net.to(where), iterate_batches(test, range(min(BATCHES, len(test))), where, workers=o.workers or 0))


def plot_rates(rates: Rates, quantities: tuple[str, ...]) -> "Figure":
    """Rates of A, or of A and O, by block."""
    figure, axes = panels(len(quantities))
    for ax, quantity in zip(axes, quantities, strict=True):
        for i, (network, blocks) in enumerate(rates.items()):
            colour, mark = COLOUR_OF.get(network, COLOURS[i + 1]), MARK_OF.get(network, MARKS[i])
            style: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 3, "linewidth": 1, "label": network}
            values = [getattr(block, quantity) for block in blocks.values()]
            ax.plot(range(1, len(values) + 1), values, **style)
            projections = [i for i, block in enumerate(blocks.values()) if block.distance is None]
            heights = [values[i] for i in projections]
            ax.plot([i + 1 for i in projections], heights, "v", color=colour, markersize=7, fillstyle="none")
        ax.set(xlabel="block $l$", ylabel=f"firing rate of ${'A' if quantity == 'branch' else 'O'}^l$")
        ax.set_ylim(bottom=0)
        ax.locator_params(axis="x", integer=True)
    legend_below(figure, axes[0], 1 + len(quantities))
    return figure
