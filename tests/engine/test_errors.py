import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch
from tiny import CPU, TINY, begin, with_optim

from spikewise.config import Model, Optim
from spikewise.engine import loop, preflight
from spikewise.engine.console import Console
from spikewise.engine.errors import BatchTooLargeError, NonFiniteError
from spikewise.engine.loader import TrainingBatches
from spikewise.engine.loop import resume, train
from spikewise.engine.memory.free import cgroup_free_memory, free_memory
from spikewise.engine.memory.out_of_memory import estimate_max_batch, step_or_oom_hint
from spikewise.engine.run import checkpoint
from spikewise.engine.run.folder import locked
from spikewise.engine.saving import restore_checkpoint, save_checkpoint
from spikewise.engine.step import TrainState


class InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * float("inf")


@pytest.mark.parametrize(
    ("layer", "change", "message"),
    [
        (
            "stage1.blocks.1.conv2",
            lambda out: out * float("nan"),
            r"the loss is nan at step 1, learning rate 0\.\d+, samples \d+, .*; "
            r"the first output that is not finite is that of 'stage1.blocks.1.conv2'.*smaller --optim.lr",
        ),
        (
            "stage1.blocks.0",
            InfiniteGradient.apply,
            r"the norm of the gradient is (nan|inf) at step 1.*the gradient at the output of 'stage1.blocks.0.conv2'",
        ),
    ],
    ids=["loss", "gradient"],
)
def test_what_is_not_finite_is_located_and_changes_nothing(layer, change, message):
    def tensors():
        buffers, _ = checkpoint.optimizer_state(state.net, state.optimizer)
        return {name: tensor.clone() for name, tensor in {**state.net.state_dict(), **buffers}.items()}

    state, batches = begin()
    state.step(*batches[0])
    state.net.get_submodule(layer).register_forward_hook(lambda _m, _a, out: change(out))
    before = tensors()
    with pytest.raises(NonFiniteError, match=message):
        state.step(*batches[1])
    after = tensors()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_samples_or_weights_that_are_not_finite_are_named():
    state, batches = begin()
    samples, labels = batches[0]
    with pytest.raises(NonFiniteError, match="the samples themselves are not finite"):
        state.step(torch.full_like(samples, float("nan")), labels)
    state.net.out.weight.data[0, 0] = float("inf")
    with pytest.raises(NonFiniteError, match=r"the weight 'out.weight' was not finite before this step"):
        state.step(samples, labels)


def test_a_threshold_that_learning_brings_down_to_rest_stops_training_wherever_it_is():
    """Deep down, too, where the neurons behind it would answer NaN with silence."""
    state, batches = begin()
    neuron = state.net.get_submodule("stage1.blocks.0.conv1.neuron")
    neuron.v_th = torch.nn.Parameter(torch.tensor(1.0))
    state.step(*batches[0])
    neuron.v_th.data.fill_(-0.1)
    with pytest.raises(NonFiniteError, match=r"the learned threshold 'stage1.blocks.0.conv1.neuron.v_th'"):
        state.step(*batches[1])
    logits, _ = state.net.eval().step(batches[1][0])
    assert logits.isnan().all()


def test_a_gradient_that_stays_infinite_under_a_loss_scaler_stops_the_run():
    state, batches = begin()
    state.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    state.net.head.register_full_backward_hook(lambda _m, grads, _out: (grads[0] * float("nan"), *grads[1:]))
    for number in range(3):  # skipped, and the scale halved: 4, 2, 1
        state.step(*batches[number])
    with pytest.raises(NonFiniteError, match="not finite even under a loss scale below 1 at step 3"):
        state.step(*batches[3])


def test_the_loss_scaler_comes_back(tmp_path):
    state, batches = begin()
    state.scaler = torch.amp.GradScaler("cpu", init_scale=512.0, growth_interval=2)
    for number in range(3):
        state.step(*batches[number])
    save_checkpoint(state, tmp_path)
    again, _ = begin()
    again.scaler = torch.amp.GradScaler("cpu")
    restore_checkpoint(again, tmp_path, Console(quiet=True))
    assert again.scaler.state_dict() == state.scaler.state_dict()
    assert again.scaler.get_scale() == 1024.0


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (MemoryError(), BatchTooLargeError, None),
        (torch.OutOfMemoryError("CUDA out of memory"), BatchTooLargeError, None),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes"), BatchTooLargeError, None),
        (RuntimeError("a bug"), RuntimeError, "a bug"),
    ],
)
def test_out_of_memory_says_which_batch_would_fit_and_other_errors_stay(error, expected, message, monkeypatch):
    state, batches = begin()
    monkeypatch.setattr(state, "step", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(expected, match=message or r"at a batch of 128: about \d+ would fit; try --optim.batch \d+"):
        step_or_oom_hint(state, [batches[0]])


def test_the_batch_that_fits_grows_with_memory():
    state, batches = begin()
    few, many = (estimate_max_batch(state.net, *batches[0], free) for free in (10**6, 10**7))
    assert 1 <= few < many
    assert many == pytest.approx(10 * few, rel=0.2)


def test_the_limit_of_a_container_is_what_is_free(tmp_path):
    assert cgroup_free_memory(tmp_path) == float("inf")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 500\n")
    for limit, free in (("max\n", float("inf")), ("10000\n", 7500), ("1000\n", 0)):
        (tmp_path / "memory.max").write_text(limit)
        assert cgroup_free_memory(tmp_path) == free
    assert 0 < free_memory(CPU) <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_two_runs_into_one_folder_are_refused(tmp_path):
    train(with_optim(epochs=1), tmp_path / "run", quiet=True)
    with locked(tmp_path / "run"), pytest.raises(BlockingIOError, match="another process is training into"):
        resume(tmp_path / "run", epochs=2, quiet=True)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (TINY, OSError, r"checkpoints of this run need \d+ MB, .* has 0 MB free"),
        (with_optim(precision="float16"), ValueError, r"precision float16 needs a GPU.*use bfloat16 or float32"),
        (
            dataclasses.replace(TINY, model=Model(name="resnet18"), optim=Optim(batch=479, lr_batch=479, epochs=1)),
            ValueError,
            r"the last batch of each epoch has one sample \(1,438 in batches of 479\)",
        ),
    ],
    ids=["disk", "precision", "last batch"],
)
def test_what_cannot_work_is_refused_before_the_run(config, error, message, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(error, match=message):
        train(config, tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_intact(tmp_path, monkeypatch):
    run = tmp_path / "run"
    write = checkpoint.disk.write

    def fill(path, content):
        if path.parent.name == ".step-00000024.new" and path.name == "training.safetensors":
            write(path, content[: len(content) // 2])
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.disk, "write", fill)
        with pytest.raises(OSError, match="No space left on device"):
            train(TINY, run, quiet=True)
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["best", "last", "step-00000012"]
    assert resume(run, quiet=True) == dataclasses.replace(train(TINY, tmp_path / "other", quiet=True), run=run)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(OSError, match=r"can't be written to: .*; give another folder with --out"):
        train(TINY, tmp_path / "run", quiet=True)


@contextmanager
def training_process(run, workers):
    """A process group that trains, past its first checkpoint."""
    command = [sys.executable, "-m", "spikewise", "train", "digits", "--workers", str(workers), "--out", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True, env=environment) as process:
        while not (run / "checkpoints" / "last").exists():
            assert process.poll() is None
            time.sleep(0.05)
        yield process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_to_the_process_group_saves_and_gives_a_status_of_its_own(workers, number, tmp_path):
    run = tmp_path / "run"
    with training_process(run, workers) as process:
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    last = json.loads((run / "checkpoints" / "last" / "state.json").read_text())["step"]
    assert f"stopped after step {last}, saved; continue with --resume {run}" in err.splitlines()[-1]


@pytest.mark.parametrize("where", ["step", "data"])
def test_workers_end_with_a_run_that_fails(where, tmp_path, monkeypatch):
    """Even while its traceback is kept: at exit Python would wait for them, who ignore signals, for ever."""

    def fail(*_):
        raise ValueError("broken")

    monkeypatch.setattr(*{"step": (TrainState, "step", fail), "data": (TrainingBatches, "augment_sample", fail)}[where])
    monkeypatch.setattr(loop, "check_first_batch", lambda state: None)  # it loads a batch, too
    with pytest.raises(ValueError, match="broken") as failed:
        train(TINY, tmp_path / "run", workers=2, quiet=True)
    assert failed.tb
    assert not multiprocessing.active_children()


def test_workers_do_not_keep_the_lock_of_a_killed_run(tmp_path):
    with training_process(tmp_path / "run", workers=2) as process:
        process.kill()
        process.wait()
        with locked(tmp_path / "run"):
            pass
        os.killpg(process.pid, signal.SIGKILL)
