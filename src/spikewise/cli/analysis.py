"""The commands that look at a network: `analyze`, `diagnose`, `energy`."""

import json
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from ..wording import count, option
from .options import (
    Connect,
    DataName,
    DataRoot,
    Device,
    Examined,
    Json,
    ModelName,
    Picture,
    RunOrFile,
    Steps,
    given,
    require_folders,
)


def analyze(
    run: RunOrFile,
    batches: int = 8,
    batch: int = 64,
    picture: Picture = None,
    device: Device = "auto",
    data_root: DataRoot = None,
    data_name: DataName = None,
    T: Steps = None,
    name: ModelName = None,
    connect: Connect = None,
    as_json: Json = False,
) -> None:
    """Firing rates, integers, distance from the identity and gradients by block.

    Args:
        batches: how many batches of test samples; as JSON, rates also by time step and class
        batch: samples in each
        picture: a .png, .svg or .pdf of firing rates by time step and class, and of ADD's integers
    """
    from ..analysis.activity import analyze_run, as_dict, format_table, plot_activity

    require_folders(picture)
    activity = analyze_run(
        run,
        batches=batches,
        batch=batch,
        device=device,
        data_root=data_root,
        data_name=data_name,
        quiet=as_json,
        **given(T=T, name=name, connect=connect),
    )
    if picture is not None:
        plot_activity(activity, picture)
    print(json.dumps(as_dict(activity)) if as_json else "\n".join(format_table(activity)))


def diagnose(
    run: RunOrFile,
    samples: int = 8,
    options: Annotated[Examined, arg(name="")] = Examined(),  # noqa: B008  (frozen)
    as_json: Json = False,
) -> None:
    """What is wrong with a network that does not learn, where, and what to change.

    Args:
        samples: how many test samples it is shown, 2 to 8
    """
    from ..analysis.diagnosis.diagnose import diagnose as diagnose_network
    from ..analysis.diagnosis.diagnose import random_labels
    from ..analysis.load import BATCH_SIZE, load_analysis_input

    if not 2 <= samples <= BATCH_SIZE:
        raise ValueError(f"{option('samples', samples)}; use 2 to {BATCH_SIZE}")
    opened = load_analysis_input(run, samples=samples, default_size=64, **options.keywords())
    net, (batch, labels) = opened.net, next(opened.batches)
    labels = random_labels(net, batch) if labels is None else labels
    findings = diagnose_network(net, batch, labels, opened.config, steps_of_run=opened.steps, score=opened.score, quiet=as_json)
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings]))
        return
    lines = list(map(str, findings)) or [f"{run}: nothing found in {count(len(net.blocks), 'block')}"]
    print("\n".join(lines))


def energy(
    run: RunOrFile,
    samples: int = 16,
    options: Annotated[Examined, arg(name="")] = Examined(),  # noqa: B008  (frozen)
    constants: Annotated[Path | None, arg(metavar="FILE")] = None,
    as_json: Json = False,
) -> None:
    """Operations, bytes and joules of one inference, beside the ReLU twin's.

    Args:
        samples: how many test samples are counted
        constants: a JSON file of picojoules that replace those of `spikewise.analysis.energy.EnergyConstants`
    """
    from ..analysis.energy import EnergyConstants, compare_with_twin, constant_sources, count_operations
    from ..analysis.load import load_analysis_input

    values = EnergyConstants.read(constants) if constants else EnergyConstants()
    opened = load_analysis_input(run, samples=samples, default_size=224, **options.keywords())
    counts = count_operations(opened.net, (batch for batch, _ in opened.batches), values, quiet=as_json)
    if as_json:
        result = counts._asdict() | {"constants": vars(values), "sources": constant_sources(values)}
        result["verdict"] = compare_with_twin(counts)
        result["layers"] = [layer._asdict() for layer in counts.layers]
        result["costs"] = [cost._asdict() | {"total": cost.total} for cost in counts.costs]
        print(json.dumps(result))
        return
    print(f"{'layer':<28} {'twin MAC':>12} {'MAC':>12} {'accumulates':>12} {'rate in':>8} {'largest':>8}")
    for layer in counts.layers:
        columns = f"{layer.twin_macs:>12,.0f} {layer.macs:>12,.0f} {layer.acs:>12,.0f}"
        if not layer.takes:  # neurons alone, sums of blocks
            continue
        rate, largest = ("-", "-") if layer.rate is None else (f"{layer.rate:.4f}", layer.max_input)
        print(f"{layer.name:<28} {columns} {rate:>8} {largest:>8}")
    print("weights that meet the zero padding at a border are not counted; tools that count them say a few per cent more")
    print("what takes no spikes has no rate, and multiplies; currents between blocks are written in 32 bits")
    if counts.not_counted:
        print(f"not counted: {', '.join(counts.not_counted)}")
    print(f"neurons add {counts.neuron_adds:,.0f} times in {count(counts.T, 'step')}, connections {counts.connect_adds:,.0f}")
    header = f"{'operations':>11} {'weights':>11} {'activations':>12} {'membranes':>11} {'all':>11}"
    print(f"\n{'microjoules per sample':<28} {header}")
    for cost in counts.costs:
        parts = f"{cost.operations / 1e6:>11,.1f} {cost.weights / 1e6:>11,.1f} {cost.activations / 1e6:>12,.1f}"
        print(f"{cost.what:<28} {parts} {cost.membranes / 1e6:>11,.1f} {cost.total / 1e6:>11,.1f}")
    print(compare_with_twin(counts))
    print("\nenergy of one operation or byte; --constants FILE replaces them:", *constant_sources(values), sep="\n  ")
