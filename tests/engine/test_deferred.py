"""Training that does not wait for the device: the same steps, and nothing asked of the host in between."""

import dataclasses
import math
import os
import sys

import pytest
import torch
from tiny import CPU, TINY, begin, json_lines, with_optim
from torch.utils._python_dispatch import TorchDispatchMode

from spikewise.engine.build import set_arithmetic
from spikewise.engine.deferred import DeferredTrainState, begin_training
from spikewise.engine.errors import NonFiniteError
from spikewise.engine.loader import TrainingBatches
from spikewise.engine.loop import resume, train
from spikewise.engine.optim import build_optimizer
from spikewise.engine.step import TrainState

EVERY = 5
DEFERRED = with_optim(check_every=EVERY, momentum=0.9)
OPTIMIZERS = {
    "SGD": {},
    "Nesterov": {"nesterov": True, "weight_decay": 1e-3},
    "no momentum": {"momentum": 0.0},
    "AdamW": {"optimizer": "adamw", "lr": 1e-3},
    "average, clipping": {"ema_decay": 0.9, "clip_grad_norm": 0.5},
    "class weights": {"class_weights": "balanced", "label_smoothing": 0.1},
}


WAITS = ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__")


class Waits(TorchDispatchMode):
    """Counts what would wait for a device, in PyTorch and by the methods of tensors; the CPU's kernels may."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.count = 0
        for name in WAITS:
            monkeypatch.setattr(torch.Tensor, name, self.counted(getattr(torch.Tensor, name)))

    def counted(self, method):
        def call(*args, **kwargs):
            self.count += f"kernels{os.sep}cpu" not in sys._getframe(1).f_code.co_filename
            return method(*args, **kwargs)

        return call

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def deferred(config=DEFERRED, **changes):
    state = begin_training(with_optim(config, **changes), begin()[0].data, CPU)
    assert isinstance(state, DeferredTrainState)
    return state, TrainingBatches(state.config, state.data, state.order)


def everything_of(state):
    held = [v for values in state.optimizer.state.values() for v in values.values() if isinstance(v, torch.Tensor)]
    return [*state.net.state_dict().values(), *state.eval_net.state_dict().values(), *held]


@pytest.mark.parametrize("changes", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("captures", [False, True], ids=["called", "replayed"])
def test_steps_are_those_that_are_checked_one_by_one(changes, captures, monkeypatch):
    monkeypatch.setattr(TrainState, "build_optimizer", lambda s: build_optimizer(s.config.optim, s.net, on_device=True))
    (ours, batches), config = deferred(**changes), with_optim(**changes)
    ours.captures = captures
    each = TrainState(config, ours.data, CPU)
    losses = []
    for step in range(7):
        losses.append(each.step(*batches[step]))
        ours.step(*batches[step])
    ours.look()
    assert ours.meter == each.meter and ours.loss == losses[-1] and ours.steps_done == 7
    assert all(map(torch.equal, everything_of(ours), everything_of(each)))


def test_the_host_waits_once_in_many_steps(monkeypatch):
    state, batches = deferred()
    state.step(*batches[0])  # looked at
    samples = [batches[step] for step in range(1, 2 * EVERY + 1)]
    with Waits(monkeypatch) as waits:
        for batch in samples:
            state.step(*batch)
    assert waits.count == 2


def test_no_step_after_a_bad_one_changes_anything_and_the_first_is_named():
    state, batches = deferred(ema_decay=0.9)
    for step in range(2):
        state.step(*batches[step])
    before, sums = [tensor.clone() for tensor in everything_of(state)], state.sums.clone()
    samples, labels = batches[2]
    state.step(samples * math.inf, labels)
    state.step(*batches[3])
    assert all(map(torch.equal, everything_of(state), before)) and torch.equal(state.sums, sums)
    with pytest.raises(NonFiniteError, match=r"^the loss is nan at step 2, learning rate .*, samples "):
        state.look()
    assert state.steps_done == 2


def test_a_gradient_that_overflows_is_told_at_the_next_look():
    state, batches = deferred(lr=1e-3)
    state.step(*batches[0])
    next(state.net.parameters()).register_hook(lambda grad: grad * math.inf)
    for step in range(1, EVERY):
        state.step(*batches[step])
    with pytest.raises(NonFiniteError, match=r"^the norm of the gradient is (nan|inf) at step 1,"):
        state.step(*batches[EVERY])


def test_a_run_that_was_interrupted_ends_on_the_same_bits(tmp_path):
    config = dataclasses.replace(DEFERRED, retention=dataclasses.replace(TINY.retention, probe_every_steps=4))
    train(config, tmp_path / "whole", quiet=True)
    train(config, tmp_path / "parts", quiet=True, stop_epoch=1)
    resume(tmp_path / "parts", quiet=True)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for name in ("metrics.jsonl", "probe.jsonl"):
        assert json_lines(whole / name) == json_lines(parts / name)
    weights = [(run / "checkpoints" / "last" / "model.safetensors").read_bytes() for run in (whole, parts)]
    assert weights[0] == weights[1]


def test_looks_do_not_change_what_is_computed(tmp_path):
    for every in (2, 50):
        train(with_optim(check_every=every, epochs=1), tmp_path / str(every), quiet=True)
    assert json_lines(tmp_path / "2" / "metrics.jsonl") == json_lines(tmp_path / "50" / "metrics.jsonl")


def test_every_step_is_looked_at_on_a_cpu_if_nothing_else_is_asked_for():
    assert type(begin_training(TINY, begin()[0].data, CPU)) is TrainState
    with pytest.raises(ValueError, match=r"optim.check_every=50 is out of range; use 1 with 4 optim.shards"):
        with_optim(check_every=50, shards=4)


def test_float32_is_float32_on_a_gpu_unless_asked_otherwise(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    tf32_before = torch.backends.cudnn.allow_tf32
    try:
        for tf32 in (True, False):
            set_arithmetic(torch.device("cuda"), tf32=tf32)
            assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is tf32
        set_arithmetic(torch.device("cuda"), deterministic=True)
        assert torch.backends.cudnn.deterministic and torch.are_deterministic_algorithms_enabled()
        set_arithmetic(torch.device("cpu"))
        assert torch.backends.cudnn.deterministic
    finally:
        set_arithmetic(torch.device("cuda"))
        torch.backends.cudnn.allow_tf32 = tf32_before
