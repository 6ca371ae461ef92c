"""What a run's network shows on its test split: answers, activity, gradients, diagnosis, energy, and samples to look at."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from ..analysis.activity import GRADIENT_SAMPLES, BlockGradients, block_gradients
from ..analysis.diagnosis.diagnose import diagnose
from ..analysis.diagnosis.finding import Finding
from ..analysis.energy import EnergyReport, count_operations
from ..analysis.load import BATCH_SIZE, spread_over_classes
from ..config import Config
from ..data import Dataset
from ..data.subset import Subset
from ..engine.build import choose_device, load_or_placeholder
from ..engine.evaluate import Answers, evaluate_network, labelled_batches, load_run, load_test_split
from ..engine.loader import EvalBatches
from ..engine.memory.estimate import MemoryEstimator
from ..engine.memory.plan import process_bytes
from ..models.network import Network
from ..models.recorder import BlockActivity, firing_rates
from .pictures import Picture, choose_samples, picture_of

RATE_SAMPLES, ENERGY_SAMPLES = 128, 16  # of the test split, spread over the classes
Found = TypeVar("Found")


class Missing(NamedTuple):
    """What a run does not have, and why, in a sentence."""

    reason: str


@dataclass(frozen=True)
class Scope:
    """How much is looked at.

    samples:  of the test split, at most; 0: the network is not looked at
    quiet:    False: where standard error is no terminal, say there once a minute how far it is
    """

    samples: int = 1000
    device: str = "auto"
    data_root: str | None = None
    quiet: bool = True


class StepMemory(NamedTuple):
    """Bytes that a process takes for a training step, by estimate, and the device that it is estimated for."""

    bytes: int
    device: str


@dataclass(frozen=True)
class Measured:
    """The network of a run's last checkpoint on its test split.

    total:  samples of the split; `answers` has those that were looked at
    """

    parameters: int
    total: int
    answers: Answers
    activity: dict[str, BlockActivity] | Missing
    gradients: dict[str, BlockGradients] | Missing
    findings: list[Finding] | Missing
    energy: EnergyReport | Missing
    pictures: list[Picture]
    memory: StepMemory | Missing


def measure(run: Path, config: Config, epochs: list[dict[str, Any]], scope: Scope) -> Measured | Missing:
    """Look at a run's network.

    epochs:   of its metrics.jsonl
    Returns:  Missing where there is no checkpoint yet, or the data is not here, or nothing is to be looked at
    Raises:   ValueError for a damaged checkpoint
    """
    if not scope.samples:
        return Missing("Samples were not looked at: the report was made with --no-data.")
    where = choose_device(scope.device)
    try:
        net, _ = load_run(run, data_root=scope.data_root)
        data = load_test_split(net, config, run)
    except OSError as error:
        return Missing(f"The network was not looked at: {error}")
    net, answers = net.to(where), Answers()
    looked_at = Subset(data, np.sort(spread_over_classes(data.labels, scope.samples)))
    batch, precision = config.optim.shard_batch, config.optim.eval_precision
    evaluate_network(net, looked_at, where, precision=precision, batch=batch, quiet=scope.quiet, answers=answers)
    if isinstance(answers.sources, range):  # no files: the numbers are those of the whole split
        answers.sources = looked_at.indices.tolist()

    def some(samples: int, of_batch: int) -> Any:
        test = EvalBatches(Subset(data, spread_over_classes(data.labels, samples)), min(of_batch, samples))
        return labelled_batches(net, test, range(len(test)), where)

    def findings() -> list[Finding]:
        steps = epochs[-1]["step"] if epochs else 0
        score = (epochs[-1]["test_correct"], epochs[-1]["test_total"]) if epochs else None
        samples, labels = next(some(BATCH_SIZE, BATCH_SIZE))
        return diagnose(net, samples, labels, config, steps_of_run=steps, score=score, quiet=scope.quiet)

    energy_batches = (samples for samples, _ in some(ENERGY_SAMPLES, BATCH_SIZE))
    return Measured(
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        total=len(data.labels),
        answers=answers,
        activity=attempt(firing_rates, net, some(RATE_SAMPLES, min(64, batch))),
        gradients=attempt(lambda: block_gradients(net, *next(some(GRADIENT_SAMPLES, GRADIENT_SAMPLES)))),
        findings=attempt(findings),
        energy=attempt(partial(count_operations, quiet=scope.quiet), net, energy_batches),
        pictures=pictures(net, looked_at, answers),
        memory=attempt(step_memory, config, where),
    )


def attempt(function: Callable[..., Found], *args: Any) -> Found | Missing:
    """What a function finds, or why it does not, in its own sentence: a ReLU network, say, has no firing rates."""
    try:
        return function(*args)
    except (ValueError, OSError) as error:
        return Missing(f"Not measured: {error}")


def pictures(net: Network, data: Dataset, answers: Answers) -> list[Picture]:
    """Samples to look at with what the network says of them, mistakes first."""
    return [picture_of(data.sample(index), net.input_spec, answers, index) for index in choose_samples(answers)]


def step_memory(config: Config, device: torch.device) -> StepMemory:
    """As `spikewise plan` estimates it."""
    use = MemoryEstimator(config, load_or_placeholder(config)[0], device).step(
        config.optim.batch, packing=config.memory.packing, checkpointing=config.memory.checkpointing
    )
    return StepMemory(process_bytes(use, device), str(device))
