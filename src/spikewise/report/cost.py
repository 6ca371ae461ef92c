"""Sections on what a run costs: energy of an inference, throughput and memory of training."""

from collections.abc import Sequence

from ..analysis.energy import EnergyConstants, EnergyReport, compare_with_twin, constant_sources
from ..wording import count
from .blocks import per_run, slug
from .charts import Line, bar_chart, line_chart, series_colour
from .html import chart, details, missing, paragraph, side_by_side, table
from .measure import ENERGY_SAMPLES, Measured, Missing
from .record import RunRecord

PARTS = ("operations", "weights", "activations", "membranes")


def energy_section(records: Sequence[RunRecord]) -> str:
    text = paragraph(
        f"One inference, a mean over {ENERGY_SAMPLES} test samples, by operations and bytes in 45 nm CMOS, beside the same "
        "network with ReLU in place of spikes. An estimate by published constants, no measurement of a chip."
    )
    sources = "\n".join(constant_sources(EnergyConstants()))
    known = details("Energy of one operation or byte", "".join(map(paragraph, sources.splitlines())))
    return text + per_run(records, lambda record, measured: energy_of(measured, slug(record, records))) + known


def energy_of(measured: Measured, number: str) -> str:
    energy = measured.energy
    if isinstance(energy, Missing):
        return missing(energy.reason)
    bars = [(part, series_colour(i), [getattr(cost, part) / 1e6 for cost in energy.costs]) for i, part in enumerate(PARTS)]
    labels = [cost.what for cost in energy.costs]
    costs = bar_chart(f"energy-{number}", "Energy of one inference", bars, labels, x="microjoules", stacked=True)
    verdict = compare_with_twin(energy)
    absent = missing(f"Not counted: {', '.join(energy.not_counted)}.") if energy.not_counted else ""
    return (
        paragraph(f"As a multiple of the twin's: {verdict}.")
        + chart(costs)
        + absent
        + details("Operations by layer", layers_table(energy))
    )


def layers_table(energy: EnergyReport) -> str:
    rows = [
        [layer.name, round(layer.twin_macs), round(layer.macs), round(layer.acs), layer.rate, layer.max_input]
        for layer in energy.layers
        if layer.takes
    ]
    head = ["layer", "multiply-accumulates, ReLU", "multiply-accumulates", "accumulates", "rate of its input", "largest input"]
    return table([head, *rows], f"Operations of one inference, {count(energy.T, 'time step')}")


def speed_section(records: Sequence[RunRecord]) -> str:
    speeds, waits = [], []
    for number, record in enumerate(records):
        epochs, label = [line["epoch"] for line in record.timing], record.label if len(records) > 1 else "this run"
        if not epochs:
            continue
        colour = series_colour(number)
        share = [100 * line["data_wait_s"] / line["seconds"] if line["seconds"] else None for line in record.timing]
        speeds.append(Line(label, epochs, [line["samples_per_second"] for line in record.timing], colour))
        waits.append(Line(label, epochs, share, colour))
    charts = (
        [
            chart(line_chart("throughput", "Throughput of training", speeds, x="epoch", y="samples per second", zero=True)),
            chart(
                line_chart(
                    "wait", "Time spent waiting for data", waits, x="epoch", y="share of the epoch, %", percent=True, zero=True
                )
            ),
        ]
        if speeds
        else []
    )
    absent = [f"{record.label}: no timing.jsonl, so neither throughput nor waiting." for record in records if not record.timing]
    return (
        side_by_side(charts)
        + "".join(map(missing, absent))
        + "".join(memory_of(record, f"{record.label}: " * (len(records) > 1)) for record in records)
    )


def memory_of(record: RunRecord, name: str) -> str:
    memory = record.measured if isinstance(record.measured, Missing) else record.measured.memory
    if isinstance(memory, Missing):
        return missing(f"{name}Memory of a training step is not estimated. {memory.reason}")
    used = record.environment.get("device", memory.device)
    other = f" The run itself used {used}." if used != memory.device else ""
    return paragraph(
        f"{name}Memory of a training step: {memory.bytes / 2**20:,.0f} MiB for the process on {memory.device}, batch "
        f"{record.config.optim.batch:,}, by the estimate of `spikewise plan`. A run does not record what it took.{other}"
    )
