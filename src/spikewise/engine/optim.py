"""The optimiser, and the learning rate of each step."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn, optim

from ..config import Optim
from ..models import Network


def build_optimizer(config: Optim, net: Network, *, on_device: bool = False) -> optim.Optimizer:
    """The optimiser of a run, with weight decay for convolutions and linear layers only: not for norms, biases and tau.

    on_device:  a step reads its learning rate and whether it is to change anything (`found_inf`) on the device: PyTorch's fused
                optimisers, which round differently from the others

    A group's `scale` is its learning rate as a multiple of the scheduled one: `plif_lr_multiplier` for PLIF's w, `head_lr` for
    the last layer, else 1. Frozen parameters are in none.
    """
    learned = {name: p for name, p in net.named_parameters() if p.requires_grad}
    head = {id(p) for p in net.head.parameters()} if config.head_lr != 1 else set()
    time_constants = {id(p) for name, p in learned.items() if name.endswith(".neuron.w")}

    def group(decays: bool, scale: float, chosen: Callable[[nn.Parameter], bool]) -> dict[str, Any]:
        params = [p for p in learned.values() if chosen(p)]
        return {"params": params, "weight_decay": config.weight_decay if decays else 0.0, "scale": scale}

    all_groups = [
        group(True, 1.0, lambda p: p.dim() > 1 and id(p) not in head),
        group(False, 1.0, lambda p: p.dim() <= 1 and id(p) not in head | time_constants),
        group(False, config.plif_lr_multiplier, lambda p: id(p) in time_constants),
        group(True, config.head_lr, lambda p: p.dim() > 1 and id(p) in head),
        group(False, config.head_lr, lambda p: p.dim() <= 1 and id(p) in head),
    ]
    groups = [group for group in all_groups if group["params"]]
    if not on_device:
        if config.optimizer == "sgd":
            return optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum, nesterov=config.nesterov)
        return {"adam": optim.Adam, "adamw": optim.AdamW}[config.optimizer](groups, lr=config.peak_lr)
    device = next(net.parameters()).device
    for each in groups:
        each["lr"] = torch.zeros((), device=device)
    if config.optimizer != "sgd":
        kind = {"adam": optim.Adam, "adamw": optim.AdamW}[config.optimizer]
        return kind(groups, fused=True, capturable=device.type == "cuda")
    optimizer = optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov, fused=True)
    if config.momentum:  # a first step that leaves everything as it is must find them
        for p in learned.values():
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


def learning_rate(config: Optim, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0: linear warm-up from 0 times the schedule, which ends with the last epoch."""
    warmup = config.warmup * steps_per_epoch
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
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr * group["scale"])
        else:
            group["lr"] = lr * group["scale"]
