"""Everything that changes during training, and one step of it."""

import copy
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, optim

from ..config import Config
from ..data import Dataset
from ..models import Network
from ..models.recorder import record_activity, step_summary
from .build import autocast, build_network, describe_input
from .chance import drawn_from
from .distributed import ALONE, World
from .ema import ema_weight, update_ema
from .errors import NonFiniteError
from .finetune import frozen_modules, load_initial_weights
from .loader import build_order, compact_sample, stack_samples, to_device
from .lockstep import Lockstep, require_usual_norms
from .loss import LOSSES, balanced_class_weights
from .non_finite import NOT_LOCATED, BufferSnapshot, locate_non_finite
from .optim import build_optimizer, learning_rate, set_learning_rate
from .shards import ExactSum, Float32Sum, GradientSum, sum_in_order
from .signals import StopSignals

Shard = tuple[Tensor, Tensor]  # samples, labels


@dataclass
class EpochMeter:
    """Sums over the training samples of one epoch, as they were seen; of a mixed sample the class with the larger share counts.

    Checkpoints hold the fields under these names.
    """

    loss: float = 0.0
    correct: int = 0
    count: int = 0
    learning_rate: float = 0.0  # of the last step

    def add(self, shards: Tensor) -> None:
        """One more step: `shard_score` of each of its shards, float64 [shards, 4]."""
        loss, correct, count = (sum_in_order(column) for column in shards.T[:3])
        self.loss += loss
        self.correct += int(correct)
        self.count += int(count)


def shard_score(loss: float, logits: Tensor, labels: Tensor, weight: float) -> Tensor:
    """Sum of the losses, correct predictions, samples, and what the shard counts in the gradient: float64 [4]."""
    correct = int((logits.detach().argmax(1) == (labels if labels.dim() == 1 else labels.argmax(1))).sum())
    return torch.tensor([loss * len(labels), correct, len(labels), weight], dtype=torch.float64)


class TrainState:
    """Everything that changes during training: network, optimiser, moving average, loss scaler, step count, epoch sums.

    fresh:         whether this is the begin of a run: weights that the config names are loaded
    ema_net:       moving average of the weights; None without `optim.ema_decay`
    steps_done:    since the start of training; the next step's number, counted from 0
    notes:         what the user should know of how the steps are done; told once
    probe_record:  the line for probe.jsonl, of the last step if that one was probed; else empty
    world:         the processes that share the shards of each step; everything here is the same in all of them
    signals:       what asks the run to stop: after each step all processes know it
    Raises:        ValueError for a precision the device doesn't have
    """

    def __init__(self, config: Config, data: Dataset, device: torch.device, *, fresh: bool = False, world: World = ALONE):
        self.config, self.data, self.device, self.world = config, data, device, world
        self.signals = StopSignals(patient=world.size > 1)
        for precision in (config.optim.precision, config.optim.eval_precision):
            autocast(precision, device)  # raises where the device can't compute in it
        self.order = build_order(config, data)
        self.net = self.build_net()
        self.net.input_spec = describe_input(config, data)
        self.begins_with = f"the weights of {config.weights}" if config.weights else "fresh weights"
        self.new_head = fresh  # whether the head begins with fresh weights
        if fresh and config.weights:
            self.begins_with, self.new_head = load_initial_weights(self.net, config)
        self.frozen = frozen_modules(self.net, config.freeze)
        balanced = config.optim.class_weights == "balanced"
        self.class_weights = balanced_class_weights(data.labels, len(data.class_names)).to(device) if balanced else None
        self.joint_norms = config.optim.norm_over == "batch" and config.optim.shards > 1
        if self.joint_norms:
            require_usual_norms(self.net)
        self.optimizer = self.build_optimizer()
        self.ema_net = self.copy_net() if config.optim.ema_decay else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.optim.precision == "float16")
        self.buffers = BufferSnapshot(self.net)
        self.first_shard = BufferSnapshot(self.net) if config.optim.shards > 1 else self.buffers
        self.told_of_links = False  # whether the user knows that the file system has none
        self.steps_done = 0
        self.meter = EpochMeter()
        self.probe_record: dict[str, Any] = {}
        self.notes: list[str] = []

    def build_net(self) -> Network:
        return build_network(self.config, self.data).to(self.device)

    def build_optimizer(self) -> optim.Optimizer:
        return build_optimizer(self.config.optim, self.net)

    def copy_net(self) -> Network:
        return copy.deepcopy(self.net)

    @property
    def eval_net(self) -> Network:
        """The network that is evaluated and saved: the moving average, where there is one."""
        return self.net if self.ema_net is None else self.ema_net

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.optim.epochs * self.order.steps_per_epoch

    def step(self, samples: Tensor, labels: Tensor) -> float:
        """`step_shards` of a batch that is one shard."""
        return self.step_shards([(samples, labels)])

    def step_shards(self, shards: list[Shard]) -> float:
        """Train on one batch, of which `shards` are those of this process, and return the loss of the whole batch.

        Raises:  NonFiniteError before any weight changes, with the running statistics restored
        """
        loss_scale = self.scaler.get_scale()  # the optimiser's step may change it
        scores, watches = self.optimize(shards, probing=self.is_probed())
        self.probe_record = {"step": self.steps_done + 1, **step_summary(self.net, watches, loss_scale)} if watches else {}
        self.meter.add(scores)
        self.steps_done += 1
        return sum_in_order(scores[:, 0]) / sum_in_order(scores[:, 2])

    def is_probed(self) -> bool:
        """Whether the next step is recorded for probe.jsonl."""
        every = self.config.retention.probe_every_steps
        return bool(every) and (self.steps_done + 1) % every == 0 and self.net.spiking

    def look(self) -> None:
        """Have `meter` complete and every step checked: it is so after each step, but where steps don't wait for the device."""

    def set_training_mode(self) -> None:
        """All that learns, in training; what is frozen is not."""
        self.net.train()
        for module in self.frozen:
            module.eval()

    def optimize(self, shards: list[Shard], *, probing: bool) -> tuple[Tensor, Any]:
        """Forward and backward of every shard, and a step of the optimiser; `shard_score` of each shard of the whole batch, and
        what was recorded of the first one.
        """
        config, world = self.config.optim, self.world
        self.meter.learning_rate = learning_rate(config, self.steps_done, self.order.steps_per_epoch)
        set_learning_rate(self.optimizer, self.meter.learning_rate)
        self.set_training_mode()
        self.buffers.save()
        parameters = [p for p in self.net.parameters() if p.requires_grad]
        exact = config.gradient_sum == "exact"
        sums = ExactSum(parameters, config.shards, world) if exact else Float32Sum(parameters, world)
        scores = torch.full((config.shards, 4), -torch.inf, dtype=torch.float64)
        differentiate_all = self.differentiate_together if self.joint_norms else self.differentiate_apart
        problem, watches = differentiate_all(shards, sums, scores, probing=probing and world.is_first)
        if config.shards > 1:
            scores = self.exchange(sums, scores, problem, shards)
        elif problem:
            self.raise_non_finite(problem, shards)
        self.apply_gradients(parameters, shards)
        return scores, watches

    def differentiate_apart(self, shards: list[Shard], sums: GradientSum, scores: Tensor, *, probing: bool) -> tuple[str, Any]:
        """Put the gradients of this process's shards into `sums`, and their scores in their places, one shard after the other;
        what is wrong with a loss, and what was recorded of the first shard.
        """
        world, watches = self.world, None
        for number, (samples, labels) in enumerate(shards):
            shard = world.rank + number * world.size
            chance = drawn_from(self.device, self.config.seed, self.steps_done, shard, "torch")
            with chance, record_activity(self.net) if probing and number == 0 else nullcontext(watches) as watches:
                score = self.differentiate(samples, labels)
            if not math.isfinite(score[0]):
                return f"the loss is {float(score[0])}", watches
            scores[shard] = score
            if self.config.optim.shards > 1:
                sums.add([p.grad for p in sums.parameters], float(score[3]))
                if number == 0:  # the running statistics are those of the first shard, as of the first device under DDP
                    self.first_shard.save()
        return "", watches

    def differentiate_together(
        self, shards: list[Shard], sums: GradientSum, scores: Tensor, *, probing: bool
    ) -> tuple[str, Any]:
        """The same, all shards at once, with norms over the whole batch. What one shard does to the statistics reaches the loss
        of the others: each loss counts with its weight before backward, in units of a whole shard's, which keeps it near 1.
        """
        config, lockstep, world = self.config.optim, self.lockstep, self.world
        unit = config.batch / config.shards
        if not shards:
            sample = stack_samples([compact_sample(self.data, 0)] * 2)
            lockstep.accompany(to_device(torch.from_numpy(sample), self.device))
            return "", None

        def forward(net: Network, shard: Shard) -> tuple[Tensor, Tensor]:
            with autocast(config.precision, self.device):
                logits = net(shard[0])
            return logits, LOSSES[config.loss](logits, shard[1], config.label_smoothing, self.class_weights)

        weights = [self.shard_weight(labels) for _, labels in shards]
        lockstep.clear_gradients()
        with record_activity(lockstep.first) if probing else nullcontext() as watches:
            results = lockstep.forward(shards, forward)
            losses = [loss * (weight / unit) for (_, loss), weight in zip(results, weights, strict=True)]
            torch.autograd.backward([self.scaler.scale(loss) for loss in losses])  # also where one is not finite: others wait
        self.first_shard.save()
        problem = ""
        for number, ((logits, loss), (_, labels), weight) in enumerate(zip(results, shards, weights, strict=True)):
            sums.add(lockstep.gradients(number), unit)
            score = shard_score(float(loss.detach()), logits, labels, weight)
            if math.isfinite(score[0]):
                scores[world.rank + number * world.size] = score
            else:
                problem = f"the loss is {float(score[0])}"
        return problem, watches

    @cached_property
    def lockstep(self) -> Lockstep:
        """Copies of the network for shards with joint norms; made when the network is in training."""
        return Lockstep(self.net, self.config.optim.shards, self.world)

    def exchange(self, sums: GradientSum, scores: Tensor, problem: str, shards: list[Shard]) -> Tensor:
        """Mean gradients and running statistics as all processes have them from here on; the scores of all shards.

        One message of maxima tells what is needed before anything changes: the scale of each gradient, whether a loss is not
        finite, a signal, and the scores: each process has minus infinity in the places of the others.
        """
        device, largest = self.device, sums.largest()
        facts = torch.tensor([float(bool(problem)), self.signals.received], dtype=torch.float64)
        report = self.world.max(torch.cat([largest, facts.to(device), scores.flatten().to(device)])).cpu()
        largest, facts, places = report.split([len(largest), len(facts), scores.numel()])
        self.signals.agreed = int(facts[1])
        if facts[0]:
            self.raise_non_finite(problem or "the loss of another rank is not finite", shards)
        scores = places.reshape(scores.shape)
        scores = scores[scores[:, 2] > 0]  # the last batch of an epoch may have fewer
        for p, gradient in zip(sums.parameters, sums.finish(largest, sum_in_order(scores[:, 3])), strict=True):
            p.grad = gradient
        self.world.broadcast(self.first_shard.copies)
        self.first_shard.restore()
        return scores

    def shard_weight(self, labels: Tensor) -> float:
        """What a shard counts in the gradient: its samples, or their classes' weights."""
        weights = self.class_weights
        return float(len(labels) if weights is None or labels.dim() > 1 else weights[labels].double().sum())

    def differentiate(self, samples: Tensor, labels: Tensor) -> Tensor:
        """Forward and backward of one shard: its gradients are in the parameters then, if its loss is finite; `shard_score`."""
        config = self.config.optim
        with autocast(config.precision, self.device):
            logits = self.net(samples)
        loss = LOSSES[config.loss](logits, labels, config.label_smoothing, self.class_weights)
        loss_value = float(loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        if math.isfinite(loss_value):
            self.scaler.scale(loss).backward()
        return shard_score(loss_value, logits, labels, self.shard_weight(labels))

    def apply_gradients(self, parameters: Sequence[Tensor], shards: list[Shard]) -> None:
        """A step of the optimiser, where the gradients are finite."""
        config, gradients = self.config.optim, [p.grad for p in parameters if p.grad is not None]
        if self.scaler.is_enabled():  # skips non-finite steps itself, and halves its scale each time
            if self.scaler.get_scale() < 1:
                self.raise_non_finite("the gradient is not finite even under a loss scale below 1", shards)
        else:
            norm = float(torch.nn.utils.get_total_norm(gradients))
            if not math.isfinite(norm):
                self.raise_non_finite(f"the norm of the gradient is {norm}", shards)
        if config.clip_grad_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, config.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema_net is not None:
            update_ema(self.ema_net, self.net, ema_weight(config.ema_decay, self.steps_done))

    def raise_non_finite(self, problem: str, shards: list[Shard]) -> None:
        """Restore the running statistics, find where it went wrong, and raise."""
        self.buffers.restore()
        with autocast(self.config.optim.precision, self.device):
            locations = [locate_non_finite(self.net, *shard, LOSSES[self.config.optim.loss]) for shard in shards]
        location = next((found for found in locations if found != NOT_LOCATED), NOT_LOCATED)
        self.buffers.restore()
        indices = self.order.batch_indices(self.steps_done).tolist()
        shown = ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
        raise NonFiniteError(
            f"{problem} at step {self.steps_done}, learning rate {self.meter.learning_rate:g}, samples {shown}; {location}. "
            "No weight was changed in this step; try a new run with a smaller --optim.lr, or a longer --optim.warmup-epochs"
        )
