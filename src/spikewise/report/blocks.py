"""Sections on the network's blocks: the diagnosis, firing rates, and gradients beside theory."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..analysis.activity import GRADIENT_SAMPLES
from ..analysis.diagnosis.finding import Finding
from ..models.recorder import BlockActivity
from ..wording import count
from .charts import Chart, Line, heat_map, line_chart, series_colour
from .html import chart, escape, heading, missing, paragraph, side_by_side, words
from .measure import RATE_SAMPLES, Measured, Missing
from .record import RunRecord

NO_PROBE = "Over training: not recorded. `spikewise train RECIPE --retention.probe-every-steps 100` records it."
MAX_PROBES = 120  # columns of a map over training


def per_run(records: Sequence[RunRecord], show: Callable[[RunRecord, Measured], str]) -> str:
    """What `show` makes of each run, under its name where there are several; of a run that was not measured, why not."""
    parts = []
    for record in records:
        name = heading(record.label) if len(records) > 1 else ""
        measured = record.measured
        parts.append(name + (missing(measured.reason) if isinstance(measured, Missing) else show(record, measured)))
    return "".join(parts)


def slug(record: RunRecord, records: Sequence[RunRecord]) -> str:
    """The number of a run, which tells its charts' names apart."""
    return str(records.index(record) + 1)


def diagnosis_section(records: Sequence[RunRecord]) -> str:
    return paragraph(
        "What `spikewise diagnose` finds: blocks that are silent, saturated or idle, lost gradients, norms, head, settings."
    ) + per_run(records, lambda _, measured: findings_list(measured.findings))


def findings_list(findings: list[Finding] | Missing) -> str:
    if isinstance(findings, Missing):
        return missing(findings.reason)
    if not findings:
        return '<p class="good">Nothing found: every block fires, learns and gets its gradient.</p>'
    items = "".join(
        f"<li><h3>{escape(f'{one.problem[:1].upper()}{one.problem[1:]} ({one.location})')}</h3><p>{escape(one.evidence)}.</p>"
        f"<p><b>What to change:</b> {words(one.advice)}.</p></li>"
        for one in findings
    )
    return f'<ul class="findings">{items}</ul>'


# Firing rates ------------------------------------------------------------------------------------------------------------


def rates_section(records: Sequence[RunRecord]) -> str:
    text = paragraph(
        f"Spikes per neuron and time step, over {RATE_SAMPLES} test samples at most, spread over the classes. A: the last "
        "neurons of a block's branch. O: the block's output, which ADD can raise above 1. Each map has its own colour scale."
    )
    return text + per_run(records, lambda record, measured: rates_of(record, measured, slug(record, records)))


def rates_of(record: RunRecord, measured: Measured, number: str) -> str:
    activity = measured.activity
    if isinstance(activity, Missing):
        return missing(activity.reason)
    maps, absent = [], []
    for letter, what in (("A", "branch"), ("O", "output")):
        if any(math.isfinite(getattr(block, what)) for block in activity.values()):
            maps.append(chart(rate_map(activity, what, f"rates-{what}-{number}", f"{letter} by block and time step")))
        if without := [name for name, block in activity.items() if not math.isfinite(getattr(block, what))]:
            why = "their blocks do not say their last neurons" if letter == "A" else "they are currents, no spikes"
            absent.append(f"No rate of {letter} in {count(len(without), 'block')} ({some(without)}): {why}.")
    return side_by_side(maps) + "".join(map(missing, absent)) + over_training(record, number, ("branch", "rate of A"))


def rate_map(activity: dict[str, BlockActivity], what: str, name: str, title: str) -> Chart:
    rows = [getattr(block, f"{what}_by_time") for block in activity.values()]
    steps = range(1, len(rows[0]) + 1)
    means = [getattr(block, what) for block in activity.values()]
    known = [(mean, block) for mean, block in zip(means, activity, strict=True) if math.isfinite(mean)]
    low, high = min(known), max(known)
    note = f"Means {low[0]:.3g} ({low[1]}) to {high[0]:.3g} ({high[1]})."
    return heat_map(name, title, rows, list(activity), steps, x="time step", y="block", unit="rate", note=note)


def over_training(record: RunRecord, number: str, *shown: tuple[str, str]) -> str:
    """Maps of what probe.jsonl recorded by block: rates, gradients."""
    probes = [line for line in record.probe if isinstance(line.get("blocks"), dict) and line["blocks"]]
    if not probes:
        return missing(NO_PROBE)
    every = -(-len(probes) // MAX_PROBES)
    chosen, blocks = probes[::every], list(probes[-1]["blocks"])
    note = f"Every {every}th of {count(len(probes), 'record')} is shown." if every > 1 else ""
    return side_by_side(
        chart(
            heat_map(
                f"training-{key}-{number}",
                f"Over training: {title}",
                [[line["blocks"].get(block, {}).get(key) for line in chosen] for block in blocks],
                blocks,
                [line["step"] for line in chosen],
                x="training step",
                y="block",
                unit=title,
                note=note,
            )
        )
        for key, title in shown
    )


# Gradients ---------------------------------------------------------------------------------------------------------------


def gradients_section(records: Sequence[RunRecord]) -> str:
    text = paragraph(
        f"The norm of the loss's gradient at each block's input, for {GRADIENT_SAMPLES} test samples in training mode. Theory: "
        "the same along the shortcut alone, from the firing rates (Eq. 11 and 15 of Fang et al., 2021); what comes through the "
        "branch adds to it. An even line lets every block learn; a steep one cuts blocks off."
    )
    lines, absent = [], []
    for number, record in enumerate(records):
        measured, name = record.measured, f"{record.label}: " if len(records) > 1 else ""
        gradients = measured if isinstance(measured, Missing) else measured.gradients
        if isinstance(gradients, Missing):
            absent.append(missing(name + gradients.reason))
            continue
        blocks, values = list(gradients), list(gradients.values())
        measured_norms = [value.grad_input if value.grad_input > 0 else None for value in values]
        make = partial(Line, colour=series_colour(number), markers=True)
        lines.append(make(f"{name}measured", blocks, measured_norms))
        if any(value.predicted for value in values):
            lines.append(make(f"{name}by theory", blocks, [value.predicted or None for value in values], dash="dot"))
        absent += [paragraph(name + sentence) for sentence in gradient_gaps(gradients)]
    note = gradient_note(lines)
    title = "Gradient norm by block"
    drawn = chart(line_chart("gradient-norm", title, lines, x="block", y="norm of dL/dS", log=True, note=note)) if lines else ""
    probes = [
        heading(record.label) * (len(records) > 1)
        + over_training(record, slug(record, records), ("gradient", "norm of the gradient"))
        for record in records
    ]
    return text + drawn + "".join(absent) + "".join(probes)


def gradient_gaps(gradients: dict[str, Any]) -> list[str]:
    sentences = []
    if without := [name for name, value in gradients.items() if value.predicted is None]:
        sentences.append(
            f"Theory says nothing of {count(len(without), 'block')} ({some(without)}): "
            "their shortcut is a convolution or missing, or the connection is one of your own."
        )
    if zero := [name for name, value in gradients.items() if not value.grad_input > 0]:
        sentences.append(f"No gradient arrives at {some(zero)}: norm 0, not drawn.")
    return sentences


def some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if names[4:] else "")


def gradient_note(lines: Sequence[Line]) -> str:
    values = [value for value in lines[0].ys if value] if lines else []
    return f"From {min(values):.2g} to {max(values):.2g} in {lines[0].label}." if values else ""
