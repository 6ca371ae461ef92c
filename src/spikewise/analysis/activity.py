"""What the blocks of a run do: spikes by time step and class, distance from the identity, gradients beside theory."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..engine.build import choose_device, load_data
from ..engine.evaluate import load_run
from ..engine.loader import TestBatches, load
from ..models.network import Network
from ..models.recorder import BlockActivity, firing_rates, time_constants
from .figures import panels
from .initial import measure
from .theory import along_shortcut

GRADIENT_SAMPLES = 16  # of the first batch, in training mode: backward keeps what evaluation does not


class Gradients(NamedTuple):
    """Norms of the loss's gradient at a block, in training mode.

    into, out_of:  dL/dS and dL/dO
    theory:        what the block's shortcut alone makes of dL/dO, by the firing rates (see `theory.along_shortcut`); None where
                   theory has no word
    """

    into: float
    out_of: float
    theory: float | None


class Analysis(NamedTuple):
    """Everything `spikewise analyze` tells, by block; tau by layer, of PLIF neurons."""

    activity: dict[str, BlockActivity]
    gradients: dict[str, Gradients]
    tau: dict[str, float]
    class_names: tuple[str, ...]


def analyze_run(
    run: str | Path, *, batches: int = 8, batch: int = 64, device: str = "auto", data_root: str | None = None
) -> Analysis:
    """Look at a finished run over the first samples of its test split.

    batches, batch:  how many batches, of how many samples
    data_root:       where the data lies now; None: where the config says
    Raises:          ValueError for a run of a ReLU network
    """
    if batches < 1 or batch < 1:
        raise ValueError(f"batches={batches} of {batch} samples; use 1 or more of each")
    where = choose_device(device)
    net, config = load_run(run, data_root=data_root)
    net, data = net.to(where), load_data(config, "test")
    test = TestBatches(data, batch)
    numbers = range(min(batches, len(test)))
    activity = firing_rates(net, load(test, numbers, where, workers=0))
    samples, labels = next(iter(load(TestBatches(data, min(batch, GRADIENT_SAMPLES)), range(1), where, workers=0)))
    return Analysis(activity, gradients(net, samples, labels), time_constants(net), data.class_names)


def gradients(net: Network, samples: torch.Tensor, labels: torch.Tensor) -> dict[str, Gradients]:
    """Gradients at every block for one batch, beside what theory says from the firing rates of the same batch."""
    found = {}
    for at, block in zip(measure(net, samples, labels), net.blocks.values(), strict=True):
        factor = along_shortcut(block, at.branch, at.output)
        found[at.name] = Gradients(at.gradient, at.gradient_out, None if factor is None else factor * at.gradient_out)
    return found


def as_dict(found: Analysis) -> dict[str, Any]:
    """For JSON: NaN, the rate of a class that was not shown, becomes null."""
    blocks = {
        name: {key: known(value) for key, value in activity._asdict().items()} | {"gradient": found.gradients[name]._asdict()}
        for name, activity in found.activity.items()
    }
    return {"blocks": blocks, "tau": found.tau, "classes": list(found.class_names)}


def known(value: Any) -> Any:
    if isinstance(value, list):
        return [known(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def table(found: Analysis) -> list[str]:
    """Lines for a terminal."""
    lines = [
        "firing rate by block, in spikes per neuron and time step: A of the branch's last neurons, O of the block's output;",
        "|O - S|, distance from the identity; dL/dS, norm of the gradient at the block's input; by theory, along the shortcut",
        f"{'block':<18} {'branch A':>9} {'output O':>9} {'largest O':>10} {'|O - S|':>9} {'dL/dS':>10} {'by theory':>10}",
    ]
    for name, at in found.activity.items():
        gradient = found.gradients[name]
        distance = "-" if at.distance is None else f"{at.distance:.4f}"
        theory = "-" if gradient.theory is None else f"{gradient.theory:.3g}"
        lines.append(
            f"{name:<18} {at.branch:>9.4f} {at.output:>9.4f} {at.max_value:>10.0f} {distance:>9}"
            f" {gradient.into:>10.3g} {theory:>10}"
        )
    if found.tau:
        lines.append("tau of PLIF, in time steps: " + ", ".join(f"{name} {tau:.3g}" for name, tau in found.tau.items()))
    return lines


def draw(found: Analysis, file: Path) -> None:
    """A picture of three: O by time step, O by class, and which integers O holds; a row for each block.

    Raises:  ValueError where matplotlib is missing, or it does not know the suffix
    """
    names = list(found.activity)
    shown = [
        ("firing rate of $O[t]$ by time step", [at.output_by_time for at in found.activity.values()], "time step", None),
        ("firing rate of $O$ by class", [at.output_by_class for at in found.activity.values()], "class", found.class_names),
        ("share of values of $O$", integers(found), "value", None),
    ]
    figure, axes = panels(len(shown), height=max(2.2, 0.16 * len(names) + 1.2), width=3.2)
    for ax, (title, rows, across, ticks) in zip(axes, shown, strict=True):
        image = ax.imshow(rows, aspect="auto", cmap="cividis", interpolation="nearest", vmin=0)
        figure.colorbar(image, ax=ax, shrink=0.8)
        ax.set(title=title, xlabel=across)
        few = range(0, len(rows[0]), max(1, len(rows[0]) // 12))
        labels = [str(i) if ticks is None or len(ticks) > 20 else ticks[i] for i in few]
        ax.set_xticks(list(few), labels, rotation=90 if ticks is not None and len(ticks) <= 20 else 0)
        ax.set_yticks(range(len(names)), names if ax is axes[0] else [""] * len(names), fontsize=max(3, 7 - len(names) // 15))
    try:
        figure.savefig(file, dpi=160)
    except ValueError as error:
        raise ValueError(f"{file}: {' '.join(str(error).split())}") from None


def integers(found: Analysis) -> list[list[float]]:
    """Shares of the values 0, 1, ... up to the largest that was seen, by block."""
    most = max((i for at in found.activity.values() for i, share in enumerate(at.values) if share), default=1)
    return [at.values[: max(most, 1) + 1] for at in found.activity.values()]
