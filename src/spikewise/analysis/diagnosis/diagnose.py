"""Diagnosis of a network that does not learn: the block or layer at fault, evidence, and advice."""

import math

import torch
from torch import Tensor

from ...config import Config
from ...engine.console import Console
from ...models.chain import ChainNet
from ...models.network import Network
from ...progress import MinuteLines
from ...wording import count
from ..block_stats import measure_blocks
from ..structure import unknown_parts
from .activity import ActivityTrace, check_dead_channels, check_overflow, check_saturated, check_silent, check_static_output
from .finding import Finding
from .inputs import check_finite, check_frozen, check_input, check_time_constants, check_weights
from .learning import check_class_order, check_gradients, check_head_bias, check_idle_branches, check_unreached
from .norms import check_norm_updates, check_running_stats
from .progress import MIN_TRAINED_STEPS, steps_trained
from .settings import check_changed_options, check_config

CHAIN = (
    "this network is a chain without residual blocks, and a diagnosis is of blocks; `spikewise energy` shows the rate of each "
    "of its layers"
)


def diagnose(
    net: Network,
    images: Tensor,
    labels: Tensor,
    config: Config | None = None,
    *,
    steps_of_run: int = 0,
    score: tuple[int, int] | None = None,
    quiet: bool = True,
) -> list[Finding]:
    """Examine a network on one batch; an empty list means that it looks healthy. The network is left as it was.

    Rates are those of evaluation if the network was trained, of training if not, where running statistics
    tell nothing yet.

    Shapes:        images [N, C, H, W] or frames [T, N, C, H, W]; labels [N]
    config:        of the run, if there is one; `labels` are then the data's own
    steps_of_run:  training steps that the run recorded
    score:         correct predictions and samples of the run's last evaluation
    quiet:         False: where standard error is no terminal, say there once a minute what is looked at
    What a block of a user's own does not say is a finding, too: "not looked at".
    Raises:        ValueError for a network that does not spike, or has no block
    """
    if not net.spiking:
        raise ValueError("a ReLU network has none of these problems; give a spiking one")
    if isinstance(net, ChainNet):
        raise ValueError(CHAIN)
    if not net.blocks:
        raise ValueError("no block of this network is a Block of spikewise.models.residual; derive your own ones from it")
    lines = MinuteLines(Console(quiet).minutely)
    steps = steps_trained(net)
    trained = steps >= MIN_TRAINED_STEPS
    if meaningless := check_finite(net) or check_input(images, trained=trained):
        return [meaningless]  # so would be all that follows
    trace = ActivityTrace(net, images, training=not trained)
    if overflow := check_overflow(trace):
        return [overflow]
    silent, frozen = check_silent(net, trace), check_frozen(net)
    lines.at(0, lambda: "activity is recorded; next the gradients of all blocks")
    gradient = frozen or check_gradients(net, measure_blocks(net, images, labels), trace)
    gradient_arrives = not silent and not frozen and (gradient is None or gradient.location != "head")
    lines.at(0, lambda: "gradients are measured; next the parameters that they reach")
    unreached = check_unreached(net, images, labels) if gradient_arrives else None
    lines.at(0, lambda: "gradients are followed; next norms, activity and the head")
    findings = [  # causes first
        check_changed_options(net),
        check_weights(net),
        check_norm_updates(net, steps) or (check_running_stats(net, images) if trained else None),
        silent,
        check_dead_channels(net, trace),
        check_saturated(net, trace),
        check_static_output(trace, images),
        gradient,
        unreached,
        check_idle_branches(net, trace, steps, silent=silent is not None),
        check_time_constants(net),
        check_head_bias(net, images) if trained else None,
        *(check_config(net, config) if config is not None else []),
        check_class_order(net, images, labels) if config is not None and trained else None,
        check_untrained(steps, steps_of_run),
        check_short_run(steps, config),
        check_chance(net, score) if trained else None,
        check_unknown_parts(net),
    ]
    return [finding for finding in findings if finding is not None]


def check_untrained(steps: int, steps_of_run: int) -> Finding | None:
    """Weights of a trained run whose norms have counted no batch."""
    if steps or not steps_of_run:
        return None
    evidence = f"the run took {count(steps_of_run, 'step')}, the weights' norms have seen no batch"
    return Finding("weights of an untrained network", "network", evidence, "take the run's own checkpoint")


def check_short_run(steps: int, config: Config | None) -> Finding | None:
    """A run that is too short for what shows after some steps only."""
    if config is None or not 0 < steps < MIN_TRAINED_STEPS:
        return None
    evidence = f"{steps:,} of the {MIN_TRAINED_STEPS} training steps that this takes"
    return Finding("not looked at: running statistics, head and class order", "run", evidence, "train on, and diagnose again")


def check_chance(net: Network, score: tuple[int, int] | None) -> Finding | None:
    """An accuracy that guessing reaches, too: within two standard deviations of 1 in the number of classes."""
    if score is None or not score[1]:
        return None
    correct, total = score
    chance = 1 / net.num_classes
    if correct > total * chance + 2 * math.sqrt(total * chance * (1 - chance)):
        return None
    evidence = f"{correct:,} of {total:,} right, guessing among {count(net.num_classes, 'class')} gets {total * chance:,.0f}"
    advice = "check the data (spikewise data check) and the labels, then try --optim.lr ten times smaller and larger"
    return Finding("accuracy is at chance", "network", evidence, advice)


def check_unknown_parts(net: Network) -> Finding | None:
    """Blocks of a user's own of which something was not looked at."""
    unknown = unknown_parts(net)
    if not unknown:
        return None
    first, reason = next(iter(unknown.items()))
    evidence = f"{reason}; the same holds for {len(unknown) - 1} more" if len(unknown) > 1 else reason
    return Finding("not looked at", first, evidence, "let the block say it (models/residual.py: Block)")


def random_labels(net: Network, images: Tensor) -> Tensor:
    """Labels for samples that have none."""
    samples = len(images) if images.dim() == 4 else images.shape[1]
    return torch.arange(samples, device=images.device) % net.num_classes
