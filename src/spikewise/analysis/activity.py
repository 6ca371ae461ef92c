"""Activity of a run's blocks: firing rates by time step and class, distance from the identity, gradients."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..engine.build import choose_device
from ..engine.console import Console
from ..engine.evaluate import labelled_batches, load_test_split, load_trained
from ..engine.loader import EvalBatches
from ..models.network import Network, require_positive
from ..models.recorder import BlockActivity, firing_rates, time_constants
from ..progress import MinuteLines
from ..wording import count
from .block_stats import measure_blocks
from .figures import panels
from .theory import shortcut_gradient_ratio

GRADIENT_SAMPLES = 16  # of the first batch, in training mode: backward keeps what evaluation does not


LEGEND = (
    "A, O: spikes per neuron and time step of the branch's last neurons and of the block's output; |O - S|: distance from the "
    "identity; dL/dS: norm of the loss's gradient at the block's input; by theory: the same along the shortcut alone"
)


class BlockGradients(NamedTuple):
    """Norms of the loss's gradient at a block, in training mode.

    grad_input, grad_output:  norms of dL/dS and dL/dO
    predicted:                norm of dL/dS along the shortcut alone, from the firing rates (see
                              `theory.shortcut_gradient_ratio`); None where the theory does not apply
    """

    grad_input: float
    grad_output: float
    predicted: float | None


class RunAnalysis(NamedTuple):
    """Activity and gradients by block; tau by layer, of PLIF neurons."""

    activity: dict[str, BlockActivity]
    gradients: dict[str, BlockGradients]
    tau: dict[str, float]
    class_names: tuple[str, ...]


def analyze_run(
    run: str | Path,
    *,
    batches: int = 8,
    batch: int = 64,
    device: str = "auto",
    data_root: str | None = None,
    data_name: str | None = None,
    quiet: bool = True,
    **overrides: Any,
) -> RunAnalysis:
    """Measure a finished run, or a weights file, on the first samples of its test split.

    batches, batch:  number of batches, samples per batch
    data_root, data_name, overrides:  as of `spikewise.evaluate`
    quiet:           False: where standard error is no terminal, say there once a minute how far it is
    Raises:          ValueError for a ReLU network; as `spikewise.evaluate`
    """
    require_positive(batches=batches, batch=batch)
    where = choose_device(device)
    net, config = load_trained(run, data_root=data_root, data_name=data_name, **overrides)
    net, data = net.to(where), load_test_split(net, config, run, overrides.get("T"))
    test = EvalBatches(data, batch)
    numbers = range(min(batches, len(test)))
    lines = MinuteLines(Console(quiet).minutely, len(numbers))

    def shown() -> Iterator[tuple[Tensor, Tensor]]:
        for done, pair in enumerate(labelled_batches(net, test, numbers, where)):
            lines.at(done, partial("measured {} of {} of {}".format, done, count(len(numbers), "batch"), data.name))
            yield pair

    activity = firing_rates(net, shown())
    samples, labels = next(labelled_batches(net, EvalBatches(data, min(batch, GRADIENT_SAMPLES)), range(1), where))
    names = net.class_names or tuple(data.class_names)
    return RunAnalysis(activity, block_gradients(net, samples, labels), time_constants(net), names)


def block_gradients(net: Network, samples: torch.Tensor, labels: torch.Tensor) -> dict[str, BlockGradients]:
    """Gradients at every block for one batch, and what theory predicts from its firing rates."""
    gradients = {}
    for stats, block in zip(measure_blocks(net, samples, labels), net.blocks.values(), strict=True):
        ratio = shortcut_gradient_ratio(block, stats.branch, stats.output)
        predicted = None if ratio is None else ratio * stats.grad_output_norm
        gradients[stats.name] = BlockGradients(stats.grad_input_norm, stats.grad_output_norm, predicted)
    return gradients


def as_dict(analysis: RunAnalysis) -> dict[str, Any]:
    """For JSON: NaN, the rate of a class that no sample showed, becomes null."""
    blocks = {
        name: {key: nan_to_none(value) for key, value in activity._asdict().items()}
        | {"gradient": analysis.gradients[name]._asdict()}
        for name, activity in analysis.activity.items()
    }
    return {"blocks": blocks, "tau": analysis.tau, "classes": list(analysis.class_names)}


def nan_to_none(value: Any) -> Any:
    if isinstance(value, list):
        return [nan_to_none(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def format_table(analysis: RunAnalysis) -> list[str]:
    """Lines for a terminal."""
    lines = [
        f"{'block':<18} {'branch A':>9} {'output O':>9} {'largest O':>10} {'|O - S|':>9} {'dL/dS':>10} {'by theory':>10}",
    ]
    for name, block in analysis.activity.items():
        gradient = analysis.gradients[name]
        distance = "-" if block.distance is None else f"{block.distance:.4f}"
        branch, output = ("-" if math.isnan(rate) else f"{rate:.4f}" for rate in (block.branch, block.output))
        max_value = "-" if math.isnan(block.max_value) else f"{block.max_value:.0f}"
        predicted = "-" if gradient.predicted is None else f"{gradient.predicted:.3g}"
        rates = f"{branch:>9} {output:>9} {max_value:>10}"
        lines.append(f"{name:<18} {rates} {distance:>9} {gradient.grad_input:>10.3g} {predicted:>10}")
    lines.append(LEGEND)
    blocks = analysis.activity
    if currents := [name for name, block in blocks.items() if math.isnan(block.output)]:
        lines.append(f"outputs that are currents, no spikes, have no rate: {summarize(currents)}")
    if unknown := [name for name, block in blocks.items() if math.isnan(block.branch)]:
        lines.append(f"not looked at, as the block does not say its last_neurons: branch A of {summarize(unknown)}")
    if analysis.tau:
        lines.append("tau of PLIF, in time steps: " + ", ".join(f"{name} {tau:.3g}" for name, tau in analysis.tau.items()))
    return lines


def summarize(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}, {len(names)} blocks"


def plot_activity(analysis: RunAnalysis, file: Path) -> None:
    """Three heat maps with a row for each block: O by time step, O by class, and which integers O holds.

    Of networks whose outputs are all currents, A by time step and class; rows of what has no rate stay empty.

    Raises:  ValueError where matplotlib is missing, or it does not know the suffix, or nothing has a rate
    """
    blocks, names, classes = list(analysis.activity.values()), list(analysis.activity), analysis.class_names
    all_currents = all(math.isnan(block.output) for block in blocks)
    if all_currents and all(math.isnan(block.branch) for block in blocks):
        raise ValueError(f"{file}: nothing to draw: outputs are currents, and no block says its last_neurons")
    letter, by = ("A", "branch_by") if all_currents else ("O", "output_by")
    class_ticks = classes if len(classes) <= 20 else None
    maps = [
        (f"firing rate of ${letter}[t]$ by time step", [getattr(block, f"{by}_time") for block in blocks], "time step", None),
        (f"firing rate of ${letter}$ by class", [getattr(block, f"{by}_class") for block in blocks], "class", class_ticks),
    ]
    if not all_currents:
        maps.append(("share of values of $O$", value_histogram(analysis), "value", None))
    figure, axes = panels(len(maps), height=max(2.2, 0.16 * len(names) + 1.2), width=3.2)
    for ax, (title, rows, xlabel, tick_names) in zip(axes, maps, strict=True):
        image = ax.imshow(rows, aspect="auto", cmap="cividis", interpolation="nearest", vmin=0)
        figure.colorbar(image, ax=ax, shrink=0.8)
        ax.set(title=title, xlabel=xlabel)
        ticks = range(0, len(rows[0]), max(1, len(rows[0]) // 12))
        ax.set_xticks(list(ticks), [tick_names[i] if tick_names else str(i) for i in ticks], rotation=90 if tick_names else 0)
        ax.set_yticks(range(len(names)), names if ax is axes[0] else [""] * len(names), fontsize=max(3, 7 - len(names) // 15))
    try:
        figure.savefig(file, dpi=160)
    except ValueError as error:
        raise ValueError(f"{file}: {' '.join(str(error).split())}") from None


def value_histogram(analysis: RunAnalysis) -> list[list[float]]:
    """Shares of the values 0, 1, ... up to the largest that occurs, by block."""
    blocks = analysis.activity.values()
    max_value = max((i for block in blocks for i, share in enumerate(block.values) if share > 0), default=1)
    return [block.values[: max(max_value, 1) + 1] for block in blocks]
