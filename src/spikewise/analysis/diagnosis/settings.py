"""Checks of options: against those the network was built with, the run's config, and common sense."""

import math
from typing import Any

from ...config import Config, Optim
from ...kernels.connect import CONNECT
from ...models.network import Network
from ...neurons import Neuron
from ...recipes import RECIPES
from ..structure import connect_name, last_neurons_name
from .finding import Finding

MAX_LR_PER_256 = {"sgd": 1.0, "adam": 0.02, "adamw": 0.02}  # learning rates for 256 samples
MIN_LR_FRACTION = 1e-5  # of those: below, nothing is learnt
MAX_LR_RATIO = 4.0  # of a learning rate per sample to the largest, or to the recipe's
RESTORE_ADVICE = "use the network as it was trained"


def check_changed_options(net: Network) -> Finding | None:
    """The first option that was changed since the network was built, so that its checkpoint says otherwise."""
    options: list[tuple[str, str, Any]] = [("T", "network", net.T)]
    blocks = net.blocks
    last_neurons = {last_neurons_name(net, block) for block in blocks}
    for name, module in net.named_modules():
        if isinstance(module, Neuron):
            keys = ("surrogate", "alpha", "v_th", "v_reset", "detach_reset")
            own_surrogate = name.removesuffix(".neuron") in last_neurons and net.spec.get("last_surrogate")
            options += [(key, name, getattr(module, key)) for key in keys if not (own_surrogate and key == "surrogate")]
        if name in blocks and connect_name(blocks[name]) and isinstance(net.spec.get("connect"), str):
            options.append(("connect", name, connect_name(blocks[name])))
    for key, location, value in options:
        built = net.spec.get(key)
        required = built is not None or (key == "v_reset" and key in net.spec)  # v_reset None: soft reset
        if required and not same_option(built, value):
            return Finding(f"{key} is not the checkpoint's", location, f"here {value}, checkpoint {built}", RESTORE_ADVICE)
    return None


def same_option(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float | int) and isinstance(theirs, float | int):
        return math.isclose(ours, theirs)
    return str(ours).upper() == str(theirs).upper() or (callable(ours) and CONNECT.get(str(theirs).upper()) is ours)


def check_config(net: Network, config: Config) -> list[Finding]:
    """Options that differ between config and network, and a learning rate out of scale."""
    findings = []
    for key in ("T", "surrogate", "alpha", "v_th", "connect", "neuron", "tau"):
        built, configured = net.spec.get(key), getattr(config.model, key, None)
        if built is not None and configured is not None and not same_option(built, configured):
            evidence = f"config {configured}, checkpoint {built}"
            advice = f"{RESTORE_ADVICE}, or train it again"
            findings.append(Finding(f"{key} is not the checkpoint's", "network", evidence, advice))
    learning_rate = check_learning_rate(config)
    return findings if learning_rate is None else [*findings, learning_rate]


def check_learning_rate(config: Config) -> Finding | None:
    optim, max_lr = config.optim, MAX_LR_PER_256[config.optim.optimizer]
    lr = lr_per_256(optim)
    recipe = RECIPES[config.recipe]().optim if config.recipe in RECIPES else None
    if recipe is not None and recipe.optimizer == optim.optimizer and lr > MAX_LR_RATIO * lr_per_256(recipe):
        source = "published" if "/" in config.recipe else "recipe's"
        advice = (
            f"take about {recipe.peak_lr * optim.batch / recipe.batch:.2g}: "
            f"the {source} {recipe.peak_lr:.3g} for {optim.optimizer.upper()} is for {recipe.batch} samples"
        )
    elif optim.peak_lr > max_lr or lr > MAX_LR_RATIO * max_lr:
        advice = f"take about {max_lr / 10 * min(1.0, optim.batch / 256):.2g}: the published 0.1 for SGD is for 256 samples"
    elif lr < MIN_LR_FRACTION * max_lr:
        advice = "so small that nothing is learnt; see the recipes"
    else:
        return None
    evidence = f"{optim.optimizer} at {optim.peak_lr:.3g} for batches of {optim.batch}"
    return Finding("learning rate out of scale", "run", evidence, advice)


def lr_per_256(optim: Optim) -> float:
    return optim.peak_lr * 256 / optim.batch
