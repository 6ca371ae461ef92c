"""The command `spikewise plan`."""

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from ..config import Config
from ..durations import format_duration
from ..wording import count
from .options import Device, Json

if TYPE_CHECKING:
    from ..engine.memory.plan import Plan, Timing


OPTIONAL = ("moving average", "gradients of the shards")


def plan(
    config: Annotated[Config, arg(name="")],
    device: Device = "auto",
    measure: int = 3,
    processes: int = 1,
    as_json: Json = False,
) -> None:
    """Memory and time of a run before it begins, and what would make it fit.

    Args:
        measure: training steps that are timed, on random samples; 0: none
        processes: that will share the shards of each step; what is planned is one of them
    """
    from ..engine.memory.plan import plan as plan_run

    if measure and not as_json and sys.stderr.isatty():  # it takes a while
        print(f"counting, then timing {count(measure, 'step')} (--measure 0: none)", file=sys.stderr)
    result = plan_run(config, device=device, measure=measure, quiet=as_json, processes=processes)
    print(json.dumps(dataclasses.asdict(result) | {"fits": result.fits}) if as_json else "\n".join(table(result)))


def table(plan: "Plan") -> list[str]:
    """The plan in lines."""
    shape = " x ".join(map(str, plan.shape))
    where = "" if plan.data_available else ", as published: its files are not here"
    of_batch = f"{plan.precision}, batch {plan.batch}, {plan.device}"
    if plan.processes > 1:
        of_batch += f", each of {count(plan.processes, 'process')}"
    lines = [f"{plan.model} on {plan.data} ({count(plan.samples, 'training sample')} of {shape}{where}), {of_batch}", ""]
    step = plan.bytes
    parts = {
        "weights, running estimates": step.weights,
        "gradients": step.gradients,
        "gradients of the shards": step.terms,
        "optimiser": step.optimizer,
        "moving average": step.average,
        "batch": step.batch,
        "kept for backward": step.activations,
        "peak of all tensors": step.peak,
        "process, beyond libraries": plan.process,
        "free": plan.free,
    }
    lines += [f"{name:<28} {amount(value)}" for name, value in parts.items() if value or name not in OPTIONAL]
    header = f"{'packing':<8} {'checkpointing':<13} {'kept':>11} {'peak':>11} {'process':>11} {'largest batch':>14}"
    lines += ["", header]
    for choice in plan.options:
        packing = "on" if choice.packing else "off"
        numbers = " ".join(amount(value) for value in (choice.activations, choice.peak, choice.process))
        costs = "" if choice.checkpointing == "none" else "  computes forward twice"
        lines.append(f"{packing:<8} {choice.checkpointing:<13} {numbers} {choice.max_batch:>14,}{costs}")
    lines.append("")
    if plan.timing:
        lines.append(timing_line(plan.timing, plan.batch))
    needed, free = amount(plan.process).strip(), amount(plan.free).strip()
    if plan.fits:
        return [*lines, f"fits: about {needed} of {free} that are free"]
    would = f", which needs about {amount(plan.proposal_bytes).strip()}" if plan.proposal_bytes else ""
    advice = f"try {plan.proposal}{would}" if plan.proposal else "no batch does; take a smaller network or fewer time steps"
    return [*lines, f"does not fit: {needed}, {free} are free; {advice}"]


def timing_line(timing: "Timing", batch: int) -> str:
    of = count(timing.steps, "step") + ("" if timing.batch == batch else f" of {count(timing.batch, 'sample')}")
    each, epoch, whole = map(format_duration, (timing.per_step, timing.per_epoch, timing.whole_run))
    return f"time: {each} per step, {epoch} per epoch, {whole} in all, without loading and evaluation (median of {of})"


def amount(value: float) -> str:
    """Bytes with their unit, 11 columns wide."""
    return f"{value / 2**30:>7,.2f} GiB" if value >= 2**30 else f"{value / 2**20:>7,.1f} MiB"
