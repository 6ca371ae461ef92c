"""The command `spikewise plan`, and how a recipe and its options are read, for `train`, too."""

import dataclasses
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from ..config import Config

if TYPE_CHECKING:
    from ..engine.memory.plan import Plan, Timing

T = TypeVar("T")


@dataclass(frozen=True)
class PlanOptions:
    """Memory and time of a run before it begins. Every field of the recipe can be changed on the command line."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    measure: int = 3  # training steps that are timed, on random samples; 0: none
    json: bool = False  # JSON instead of a table


def of_recipe(command: str, kind: type[T], args: list[str], instead: str = "") -> T:
    """The options of a command whose first argument is a recipe, and that recipe's config with what they change."""
    from ..recipes import RECIPES

    if args and args[0].startswith("-"):
        raise ValueError(f"{command} needs a recipe before its options{instead}; given {args[0]!r} first")
    if not args or args[0] not in RECIPES:
        known = f"known: {', '.join(RECIPES)}"
        wrong = f"no recipe named {args[0]!r}" if args else f"{command} needs a recipe{instead}"
        raise ValueError(f"{wrong}; {known}")
    recipe, options = args[0], args[1:]
    default: Any = kind(config=RECIPES[recipe]())  # type: ignore[call-arg]
    given: Any = tyro.cli(kind, prog=f"spikewise {command} {recipe}", args=options, default=default)
    if given.config.recipe != recipe:
        wanted = given.config.recipe
        raise ValueError(f"--recipe {wanted} can't be set; name the recipe first: spikewise {command} {wanted}")
    return given


def plan(args: list[str]) -> None:
    """Print what a run takes in memory and time, and what would make it fit."""
    given = of_recipe("plan", PlanOptions, args)
    from ..engine.memory.plan import plan as make

    if given.measure and not given.json and sys.stderr.isatty():  # it takes a while
        print(f"counting, then timing {given.measure} steps (--measure 0: none)", file=sys.stderr)
    found = make(given.config, device=given.device, measure=given.measure)
    if given.json:
        print(json.dumps(dataclasses.asdict(found) | {"fits": found.fits}))
        return
    print("\n".join(table(found)))


def table(found: "Plan") -> list[str]:
    """The plan in lines."""
    shape = " x ".join(map(str, found.shape))
    where = "" if found.data_available else ", as published: its files are not here"
    of_batch = f"{found.precision}, batch {found.batch}, {found.device}"
    lines = [f"{found.model} on {found.data} ({found.samples:,} training samples of {shape}{where}), {of_batch}", ""]
    step = found.bytes
    parts = {
        "weights, running estimates": step.weights,
        "gradients": step.gradients,
        "optimiser": step.optimizer,
        "moving average": step.average,
        "batch": step.batch,
        "kept for backward": step.activations,
        "peak of all tensors": step.peak,
        "process, beyond libraries": found.process,
        "free": found.free,
    }
    lines += [f"{name:<28} {amount(value)}" for name, value in parts.items() if value or name != "moving average"]
    header = f"{'packing':<8} {'checkpointing':<13} {'kept':>11} {'peak':>11} {'process':>11} {'largest batch':>14}"
    lines += ["", header]
    for choice in found.options:
        packing = "on" if choice.packing else "off"
        numbers = " ".join(amount(value) for value in (choice.activations, choice.peak, choice.process))
        costs = "" if choice.checkpointing == "none" else "  computes forward twice"
        lines.append(f"{packing:<8} {choice.checkpointing:<13} {numbers} {choice.max_batch:>14,}{costs}")
    lines.append("")
    if found.timing:
        lines.append(timing_line(found.timing, found))
    if found.fits:
        lines.append(f"fits: about {amount(found.process).strip()} of {amount(found.free).strip()} that are free")
    else:
        advice = f"try {found.proposal}" if found.proposal else "no batch does; take a smaller network or fewer time steps"
        lines.append(f"does not fit: {amount(found.process).strip()}, {amount(found.free).strip()} are free; {advice}")
    return lines


def timing_line(timing: "Timing", found: "Plan") -> str:
    of = f"{timing.steps} steps" if timing.batch == found.batch else f"{timing.steps} steps of {timing.batch} samples"
    each, epoch, whole = map(duration, (timing.per_step, timing.per_epoch, timing.whole_run))
    return f"time: {each} per step, {epoch} per epoch, {whole} in all, without loading and evaluation (median of {of})"


def amount(value: float) -> str:
    """Bytes with their unit, 11 columns wide."""
    return f"{value / 2**30:>7,.2f} GiB" if value >= 2**30 else f"{value / 2**20:>7,.1f} MiB"


def duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.3g} s"
