"""What a run folder knows of its network, for the model card: recipe, accuracy; and, where its data is, rates and energy."""

import math
from pathlib import Path

from ..config import Config
from ..data.messages import notice, one_line
from ..engine.run.fingerprint import flatten_config
from ..engine.run.folder import METRICS, read_config, read_lines
from ..models.card import TrainingFacts
from ..models.recorder import firing_rates
from ..recipes import RECIPES
from ..wording import count
from .energy import count_operations
from .load import load_analysis_input, recorded_progress

SAMPLES = 64
SHOWN = ("spiking, float32", "spiking, 8-bit weights", "ReLU twin, float32", "ReLU twin, 8 bits")
UNTOLD = ("recipe", "seed", "imports", "data.root")  # told otherwise, or of the machine


def describe_run(run: str | Path, *, license: str = "", data_root: str | None = None, device: str = "auto") -> TrainingFacts:
    """The facts of a run's model card; what can't be measured as the data is missing is left out, and said.

    license:  of the weights, as Hugging Face names it
    """
    config, (_, score) = read_config(Path(run)), recorded_progress(Path(run))
    correct, total = score or (0, 0)
    rates, energy, samples = {}, {}, 0
    try:
        net, batches, *_ = load_analysis_input(run, samples=SAMPLES, device=device, data_root=data_root)
    except FileNotFoundError as error:
        notice(f"the model card says nothing of rates and energy: {one_line(error)}")
    else:
        if net.spiking:
            shown = [batch for batch, _ in batches]
            samples = sum(batch.shape[0 if batch.dim() == 4 else 1] for batch in shown)
            rates = {name: block.branch for name, block in firing_rates(net, shown).items() if not math.isnan(block.branch)}
            energy = {cost.what: cost.total / 1e6 for cost in count_operations(net, shown).costs if cost.what in SHOWN}
    return TrainingFacts(
        recipe=describe_recipe(config) + describe_progress(Path(run), config),
        correct=correct,
        total=total,
        rates=rates,
        energy=energy,
        samples=samples,
        license=license,
    )


def describe_recipe(config: Config) -> str:
    """A recipe by name, the seed, and what was changed."""
    if config.recipe not in RECIPES:
        return f"of its own, seed {config.seed}"
    now, before = flatten_config(config), flatten_config(RECIPES[config.recipe]())
    changed = ", ".join(f"{name}={value!r}" for name, value in now.items() if before[name] != value and name not in UNTOLD)
    return f"`{config.recipe}`, seed {config.seed}" + (f", with {changed}" if changed else "")


def describe_progress(run: Path, config: Config) -> str:
    """Of a run that was not run to its end, how far it is."""
    done = len(read_lines(run / METRICS))
    return "" if done >= config.optim.epochs else f", {done} of {count(config.optim.epochs, 'epoch')}"
