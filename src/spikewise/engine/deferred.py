"""Training that does not wait for the device after each step.

Whether loss and gradient are finite, the sums of an epoch, and the scale of float16 stay on the device. A step in which
something is not finite, and every later one, leaves weights, optimiser, running statistics, average and sums as they are, until
the host looks: once in `optim.check_every` steps. As nothing in such a step asks the host, a GPU records it once (`capture.py`)
and repeats it.
"""

import math
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, optim

from ..config import Config
from ..data import Dataset
from ..models.recorder import record_activity, step_summary
from .build import autocast, set_arithmetic
from .capture import Recording, restored
from .chance import drawn_from
from .distributed import ALONE, World
from .ema import ema_weight, update_ema
from .loader import ShardBatches, TrainingBatches, place
from .loss import LOSSES
from .optim import build_optimizer, learning_rate, set_learning_rate
from .step import Shard, TrainState

LOOK_ON_GPU = 50  # steps


def begin_training(
    config: Config, data: Dataset, device: torch.device, *, fresh: bool = False, world: World = ALONE
) -> TrainState:
    """The state of a training, of the kind that the config's `check_every` asks for, and the arithmetic that it asks for.

    Raises:  ValueError as `TrainState`, and for looks that are far apart where several processes exchange what they found in
             each step, or where the device has no float64
    """
    set_arithmetic(device, tf32=config.optim.tf32, deterministic=config.optim.deterministic)
    every, shards = config.optim.check_every, config.optim.shards
    if every > 1 and (world.size > 1 or device.type not in ("cpu", "cuda")):
        where = f"{world.size} processes" if world.size > 1 else f"device {device.type}"
        raise ValueError(f"optim.check_every={every} is for one process on a CPU or an NVIDIA GPU, not for {where}; use 1")
    if every == 0 and device.type == "cuda" and shards == world.size == 1:
        every = LOOK_ON_GPU
    if every <= 1:
        return TrainState(config, data, device, fresh=fresh, world=world)
    return DeferredTrainState(config, data, device, fresh=fresh, look_every=every)


class DeferredTrainState(TrainState):
    """A `TrainState` whose `meter` and finite checks are on the device between two looks.

    look_every:  steps from one look to the next; the first one, the last of an epoch and probed ones are looked at, too
    captures:    whether a step is recorded and replayed
    """

    def __init__(self, config: Config, data: Dataset, device: torch.device, *, fresh: bool = False, look_every: int):
        super().__init__(config, data, device, fresh=fresh)
        self.look_every, self.unseen = look_every, 0  # steps since the last look
        self.captures = config.memory.capture and device.type == "cuda"
        if self.captures and config.memory.checkpointing != "none":
            self.captures = False  # it reads a generator's state, which can't be recorded
            self.notes.append("steps are not recorded as CUDA graphs: not with --memory.checkpointing")
        self.recording: Recording | None = None
        self.warm = False  # after a step: the optimiser has made its buffers
        self.loss = math.nan  # of the last step looked at
        self.wrong = torch.zeros((), device=device)  # 1 from the first bad step on; float32, as optimisers take `found_inf`
        self.step_number = torch.zeros((), dtype=torch.float64, device=device)
        self.first_wrong = torch.zeros(4, dtype=torch.float64, device=device)  # its step, loss, gradient's norm, loss scale
        self.scores = torch.zeros(3, dtype=torch.float64, device=device)  # of a step: sum of losses, correct, samples
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)  # of the epoch
        self.ema_weight = torch.zeros((), device=device)
        self.scaler.scale(self.wrong)  # makes the scaler's tensors

    def build_optimizer(self) -> optim.Optimizer:
        return build_optimizer(self.config.optim, self.net, on_device=True)

    def step_shards(self, shards: list[Shard]) -> float:
        """Train on one batch, and return the loss of the last one looked at.

        Raises:  NonFiniteError as `look`
        """
        ((samples, labels),) = shards
        self.send_numbers()
        self.set_training_mode()
        probing = self.is_probed()
        self.probe_record: dict[str, Any] = {}
        if probing:
            self.step_probed(samples, labels)
        else:
            recording = self.recorded(samples, labels) if self.captures and self.warm else None
            with self.chance():
                if recording is not None and recording.fits(samples, labels):
                    recording.replay(samples, labels)
                else:  # among others the last, smaller batch of an epoch
                    self.step_eagerly(samples, labels)
        self.steps_done, self.unseen = self.steps_done + 1, self.unseen + 1
        first, self.warm = not self.warm, True
        if probing or first or self.unseen == self.look_every or self.steps_done % self.order.steps_per_epoch == 0:
            self.look()
        return self.loss

    def send_numbers(self) -> None:
        """What a step reads and the host knows."""
        config = self.config.optim
        self.meter.learning_rate = learning_rate(config, self.steps_done, self.order.steps_per_epoch)
        set_learning_rate(self.optimizer, self.meter.learning_rate)
        self.step_number.fill_(self.steps_done)
        self.ema_weight.fill_(ema_weight(config.ema_decay, self.steps_done))
        if not self.unseen:  # the host may have begun an epoch, or loaded a checkpoint
            for number, total in enumerate((self.meter.loss, self.meter.correct, self.meter.count)):
                self.sums[number].fill_(total)

    def chance(self) -> AbstractContextManager[None]:
        """The random numbers of this step."""
        return drawn_from(self.device, self.config.seed, self.steps_done, 0, "torch")

    def step_probed(self, samples: Tensor, labels: Tensor) -> None:
        """A step of which the first half is recorded for probe.jsonl."""
        scale = self.scaler.get_scale()
        with self.chance(), record_activity(self.net) as watches:
            self.differentiate(samples, labels)
        self.probe_record = {"step": self.steps_done + 1, **step_summary(self.net, watches, scale)}
        self.update()

    def step_eagerly(self, samples: Tensor, labels: Tensor) -> None:
        self.differentiate(samples, labels)
        self.update()

    def recorded(self, samples: Tensor, labels: Tensor) -> Recording | None:
        """The recorded step, made of the first batch; None where its replay gives other bits than the step itself."""
        if self.recording is None:
            results, tensors = [], self.changing_tensors()
            with restored(tensors, self.scaler), self.chance():
                self.recording = Recording([self.differentiate, self.update], samples, labels)
            for step in (self.step_eagerly, self.recording.replay):
                with restored(tensors, self.scaler), self.chance():
                    step(samples, labels)
                    results.append([tensor.clone() for tensor in tensors])
            if not all(map(torch.equal, *results)):
                self.notes.append("steps are not recorded as CUDA graphs: a recorded one gives other bits here")
                self.recording, self.captures = None, False
        return self.recording

    def changing_tensors(self) -> list[Tensor]:
        """All that a step changes, but the loss scaler."""
        held = [value for state in self.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
        average = [] if self.ema_net is None else [*self.ema_net.state_dict().values()]
        own = [self.wrong, self.first_wrong, self.scores, self.sums]
        return [*own, *self.net.parameters(), *self.buffers.buffers, *self.buffers.copies, *held, *average]

    def differentiate(self, samples: Tensor, labels: Tensor) -> Any:
        """Forward and backward: `scores`, and the gradients in the parameters. Asks the host nothing."""
        config = self.config.optim
        self.buffers.save()
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(config.precision, self.device):
            logits = self.net(samples)
        loss = LOSSES[config.loss](logits, labels, config.label_smoothing, self.class_weights)
        self.scaler.scale(loss).backward()
        count = self.scores.new_full((), len(labels))
        correct = (logits.detach().argmax(1) == (labels if labels.dim() == 1 else labels.argmax(1))).sum()
        self.scores.copy_(torch.stack([loss.detach().double() * count, correct.double(), count]))

    @torch.no_grad()
    def update(self) -> None:
        """A step of the optimiser, of the average and of the sums: of none of them once something was not finite. Asks the host
        nothing.
        """
        config, scaler = self.config.optim, self.scaler
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        loss, scale = self.scores[0] / self.scores[2], scaler.scale(torch.ones_like(self.wrong))
        if scaler.is_enabled():
            scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.get_total_norm(gradients)
        # a step whose scaled gradient is infinite is skipped, and the scale halved: down to 1
        bad_gradient = scale < 1 if scaler.is_enabled() else ~norm.isfinite()
        wrong = (~loss.isfinite() | bad_gradient).to(self.wrong.dtype)
        facts = torch.stack([self.step_number, loss, norm.double(), scale.double()])
        self.first_wrong.copy_(torch.where(wrong > self.wrong, facts, self.first_wrong))
        self.wrong.copy_(torch.maximum(self.wrong, wrong))
        if config.clip_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(self.net.parameters(), config.clip_grad_norm, norm)
        if scaler.is_enabled():
            for found in scaler._found_inf_per_device(self.optimizer).values():
                found.copy_(torch.maximum(found, self.wrong))
            scaler.step(self.optimizer)
            scaler.update()
        else:
            self.optimizer.found_inf = self.wrong  # type: ignore[attr-defined]  # as the scaler does
            self.optimizer.step()
        for buffer, before in zip(self.buffers.buffers, self.buffers.copies, strict=True):
            buffer.copy_(torch.where(self.wrong > 0, before, buffer))
        if self.ema_net is not None:
            update_ema(self.ema_net, self.net, self.ema_weight * (1 - self.wrong))
        self.sums.add_(torch.where(self.wrong > 0, 0.0, self.scores))

    def look(self) -> None:
        """Wait for the device, and take over what it found.

        Raises:  NonFiniteError, with `steps_done` and all else as before the first step in which something was not finite
        """
        if not self.unseen:
            return
        facts = torch.cat([self.sums, self.scores, self.wrong.double()[None], self.first_wrong]).tolist()
        self.meter.loss, self.meter.correct, self.meter.count = facts[0], int(facts[1]), int(facts[2])
        self.loss, self.unseen = facts[3] / facts[5], 0
        wrong, step, loss, norm, scale = facts[6:]
        if not wrong:
            return
        if not math.isfinite(loss):
            problem = f"the loss is {loss}"
        elif self.scaler.is_enabled():
            problem = f"the gradient is not finite even under a loss scale of {scale:g}"
        else:
            problem = f"the norm of the gradient is {norm}"
        self.steps_done = int(step)
        self.meter.learning_rate = learning_rate(self.config.optim, self.steps_done, self.order.steps_per_epoch)
        batches = ShardBatches(TrainingBatches(self.config, self.data, self.order))
        shards = place(batches[self.steps_done], self.device, batches.table)
        with self.chance():
            self.raise_non_finite(problem, shards)
