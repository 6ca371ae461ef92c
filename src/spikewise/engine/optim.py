"""The optimiser, and the learning rate of each step."""

import math

from torch import nn, optim

from ..config import Optim


def build_optimizer(config: Optim, net: nn.Module) -> optim.Optimizer:
    """The optimiser of a run. Weight decay holds for convolutions and linear layers; norms, biases and tau are free of it."""
    matrices = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[config.optimizer](groups, lr=config.peak_lr)


def learning_rate(config: Optim, step: int, steps_per_epoch: int) -> float:
    """The learning rate of step `step`: linear warm-up from 0, times the schedule, which ends after the last epoch."""
    warmup = config.warmup_epochs * steps_per_epoch
    peak = config.peak_lr * min(1, (step + 1) / warmup) if warmup else config.peak_lr
    if config.schedule == "constant":
        return peak
    return peak * (1 + math.cos(math.pi * step / (config.epochs * steps_per_epoch))) / 2


def set_learning_rate(optimizer: optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
