"""The optimiser, and the learning rate of each step."""

import math

from torch import nn, optim

from ..config import Optim


def build_optimizer(config: Optim, net: nn.Module) -> optim.Optimizer:
    """The optimiser of a run, with weight decay for convolutions and linear layers only: not for norms, biases and tau.

    A group's `scale` is its learning rate as a multiple of the scheduled one: `plif_lr_multiplier` for PLIF's w, else 1.
    """
    matrices = [p for p in net.parameters() if p.dim() > 1]
    time_constants = [p for name, p in net.named_parameters() if name.endswith(".neuron.w")]
    assigned = {id(p) for p in [*matrices, *time_constants]}
    others = [p for p in net.parameters() if id(p) not in assigned]
    all_groups = [
        {"params": matrices, "weight_decay": config.weight_decay, "scale": 1.0},
        {"params": others, "weight_decay": 0.0, "scale": 1.0},
        {"params": time_constants, "weight_decay": 0.0, "scale": config.plif_lr_multiplier},
    ]
    groups = [group for group in all_groups if group["params"]]
    if config.optimizer == "sgd":
        return optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[config.optimizer](groups, lr=config.peak_lr)


def learning_rate(config: Optim, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0: linear warm-up from 0 times the schedule, which ends with the last epoch."""
    warmup = config.warmup_epochs * steps_per_epoch
    peak = config.peak_lr * min(1, (step + 1) / warmup) if warmup else config.peak_lr
    epoch = step // steps_per_epoch if config.schedule_every == "epoch" else step / steps_per_epoch
    if config.schedule == "constant":
        return peak
    if config.schedule == "step":
        return peak * config.step_gamma ** (step // steps_per_epoch // config.step_epochs)
    return peak * (1 + math.cos(math.pi * epoch / config.epochs)) / 2


def set_learning_rate(optimizer: optim.Optimizer, lr: float) -> None:
    """Set the scheduled learning rate of a step; each group gets it times its `scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
