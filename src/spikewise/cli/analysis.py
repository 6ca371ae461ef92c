"""The commands that look at a network: `analyze`, `diagnose`, `energy`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

Device = Literal["auto", "cpu", "cuda", "mps"]


def analyze(
    run: Positional[Path],
    batches: int = 8,
    picture: Path | None = None,
    device: Device = "auto",
    data_root: str | None = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """What every block of a run does: firing rates, integers, distance from the identity, gradients.

    Args:
        run: the run folder
        batches: how many batches of 64 test samples
        picture: a .png, .svg or .pdf of firing rates by time step and class, and of ADD's integers
        device: where to compute
        data_root: where the data lies now, if not where the run found it
        as_json: print JSON instead of a table, with rates by time step and class
    """
    from ..analysis.activity import analyze_run, as_dict, format_table, plot_activity

    found = analyze_run(run, batches=batches, device=device, data_root=data_root)
    if picture is not None:
        plot_activity(found, picture)
    print(json.dumps(as_dict(found)) if as_json else "\n".join(format_table(found)))


def diagnose(
    run: Positional[Path],
    samples: int = 8,
    images: Path | None = None,
    size: int = 64,
    device: Device = "auto",
    data_root: str | None = None,
    name: str | None = None,
    connect: str | None = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """What is wrong with a network that does not learn: which block, how that shows, what to change.

    Args:
        run: a run folder, or a file of weights
        samples: how many test samples it is shown, 2 to 8
        images: for a file, a folder of photographs; default the embedded digits, enlarged
        size: for a file, the images' side in pixels
        device: where to compute
        data_root: where a run's data lies now
        name: of a network, where a file does not tell
        connect: ADD, AND or IAND, where a file does not tell
        as_json: print JSON instead of sentences
    """
    from ..analysis.diagnosis.diagnose import diagnose as examine
    from ..analysis.diagnosis.diagnose import random_labels
    from ..analysis.load import BATCH_SIZE, load_analysis_input

    if not 2 <= samples <= BATCH_SIZE:
        raise ValueError(f"samples={samples}; use 2 to {BATCH_SIZE}")
    opened = load_analysis_input(
        run, samples=samples, images=images, size=size, device=device, data_root=data_root, name=name, connect=connect
    )
    net, (batch, labels) = opened.net, next(opened.batches)
    labels = random_labels(net, batch) if labels is None else labels
    found = examine(net, batch, labels, opened.config, steps_of_run=opened.steps)
    if as_json:
        print(json.dumps([finding._asdict() for finding in found]))
        return
    for finding in found:
        print(finding)
    if not found:
        print(f"{run}: nothing found in {len(net.blocks)} blocks")


def energy(
    run: Positional[Path],
    samples: int = 16,
    images: Path | None = None,
    size: int = 224,
    device: Device = "auto",
    data_root: str | None = None,
    name: str | None = None,
    connect: str | None = None,
    constants: Path | None = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Operations, bytes and joules of one inference, beside the ReLU twin's.

    Args:
        run: a run folder, or a file of weights
        samples: how many test samples are counted
        images: for a file, a folder of photographs; default the embedded digits, enlarged
        size: for a file, the images' side in pixels
        device: where to compute
        data_root: where a run's data lies now
        name: of a network, where a file does not tell
        connect: ADD, AND or IAND, where a file does not tell
        constants: a JSON file of picojoules that replace those of `spikewise.analysis.energy.EnergyConstants`
        as_json: print JSON instead of a table
    """
    from ..analysis.energy import EnergyConstants, compare_with_twin, constant_sources, count_operations
    from ..analysis.load import load_analysis_input

    values = EnergyConstants.read(constants) if constants else EnergyConstants()
    opened = load_analysis_input(
        run, samples=samples, images=images, size=size, device=device, data_root=data_root, name=name, connect=connect
    )
    found = count_operations(opened.net, (batch for batch, _ in opened.batches), values)
    if as_json:
        layers, costs = (
            [layer._asdict() for layer in found.layers],
            [cost._asdict() | {"total": cost.total} for cost in found.costs],
        )
        print(
            json.dumps(
                found._asdict()
                | {"layers": layers, "costs": costs, "constants": vars(values), "sources": constant_sources(values)}
                | {"verdict": compare_with_twin(found)}
            )
        )
        return
    print(f"{'layer':<28} {'twin MAC':>12} {'MAC':>12} {'accumulates':>12} {'rate in':>8} {'largest':>8}")
    for layer in found.layers:
        counts = f"{layer.twin_macs:>12,.0f} {layer.macs:>12,.0f} {layer.acs:>12,.0f}"
        print(f"{layer.name:<28} {counts} {layer.rate:>8.4f} {layer.max_input:>8}")
    print(f"neurons add {found.neuron_adds:,.0f} times in {found.T} steps, connections {found.connect_adds:,.0f}")
    print(
        f"\n{'microjoules per sample':<28} {'operations':>11} {'weights':>11} {'activations':>12} {'membranes':>11} {'all':>11}"
    )
    for cost in found.costs:
        parts = f"{cost.operations / 1e6:>11,.1f} {cost.weights / 1e6:>11,.1f} {cost.activations / 1e6:>12,.1f}"
        print(f"{cost.what:<28} {parts} {cost.membranes / 1e6:>11,.1f} {cost.total / 1e6:>11,.1f}")
    print(compare_with_twin(found))
    print("\nenergy of one operation or byte; --constants FILE replaces them:", *constant_sources(values), sep="\n  ")
