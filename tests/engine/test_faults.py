import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from test_training import TINY, with_optim

from spikewise.config import Data, Model, Optim
from spikewise.engine import faults
from spikewise.engine import loop as trainer
from spikewise.engine.build import load_data
from spikewise.engine.faults import NotFinite, OutOfMemory
from spikewise.engine.loader import TrainingBatches
from spikewise.engine.loop import restore, resume, save, train
from spikewise.engine.report import Console
from spikewise.engine.run import checkpoint
from spikewise.engine.run import folder as rundir
from spikewise.engine.step import Training, guarded_step

CPU = torch.device("cpu")


def begin(config=TINY):
    training = Training(config, load_data(config, "train"), CPU)
    return training, TrainingBatches(config, training.data, training.order)


def state_of(training):
    tensors = {**training.net.state_dict(), **checkpoint.optimizer_state(training.net, training.optimizer)[0]}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def assert_unchanged(training, before):
    after = state_of(training)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_loss_that_is_not_finite_names_the_block_and_changes_nothing():
    training, batches = begin()
    training.step(*batches[0])
    samples, labels = batches[1]
    bad = training.net.stage1.blocks[1].conv2
    bad.register_forward_hook(lambda _m, _a, out: out * float("nan"))
    before = state_of(training)
    expected = (
        r"the loss is nan at step 1, learning rate 0\.\d+, samples \d+, .*; the first output that is not finite is that of "
    )
    with pytest.raises(NotFinite, match=expected + r"'stage1.blocks.1.conv2'.*try a new run with a smaller --optim.lr"):
        training.step(samples, labels)
    assert_unchanged(training, before)


def test_a_gradient_that_is_not_finite_names_the_block_and_changes_nothing():
    class Explode(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * float("inf")

    training, batches = begin()
    training.step(*batches[0])
    training.net.stage1.blocks[0].register_forward_hook(lambda _m, _a, out: Explode.apply(out))
    before = state_of(training)
    with pytest.raises(
        NotFinite,
        match=r"the norm of the gradient is (nan|inf) at step 1.*the gradient at the output of 'stage1.blocks.0.conv2'",
    ):
        training.step(*batches[1])
    assert_unchanged(training, before)


def test_samples_or_weights_that_are_not_finite_are_named():
    training, batches = begin()
    samples, labels = batches[0]
    with pytest.raises(NotFinite, match="the samples themselves are not finite"):
        training.step(torch.full_like(samples, float("nan")), labels)
    training, _ = begin()
    training.net.out.weight.data[0, 0] = float("inf")
    with pytest.raises(NotFinite, match=r"the weight 'out.weight' was not finite before this step"):
        training.step(samples, labels)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_out_of_memory_says_which_batch_would_fit(error, monkeypatch):
    training, batches = begin()
    monkeypatch.setattr(training, "step", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(OutOfMemory, match=r"out of memory at a batch of 128: about \d+ would fit; try --optim.batch \d+"):
        guarded_step(training, *batches[0])


def test_other_errors_of_a_step_stay_what_they_are(monkeypatch):
    training, batches = begin()
    monkeypatch.setattr(training, "step", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        guarded_step(training, *batches[0])


def test_the_batch_that_fits_grows_with_memory():
    training, batches = begin()
    samples, labels = batches[0]
    few, many = (faults.batch_that_fits(training.net, samples, labels, free) for free in (10**6, 10**7))
    assert 1 <= few < many
    assert many == pytest.approx(10 * few, rel=0.2)


def test_two_runs_into_one_folder_are_refused(tmp_path):
    train(with_optim(epochs=1), tmp_path / "run", quiet=True)
    with trainer.rundir.locked(tmp_path / "run"), pytest.raises(BlockingIOError, match="another process is training into"):
        resume(tmp_path / "run", epochs=2, quiet=True)


def test_a_disk_that_is_too_small_is_noticed_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match=r"checkpoints of this run need \d+ MB, .* has 0 MB free"):
        train(TINY, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    run = tmp_path / "run"
    write = checkpoint.disk.write

    def full(path, content):
        if path.parent.name == ".step-00000024.new" and path.name == "training.safetensors":
            write(path, content[: len(content) // 2])
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(checkpoint.disk, "write", full)
    with pytest.raises(OSError, match="No space left on device"):
        train(TINY, run, quiet=True)
    monkeypatch.undo()
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["best", "last", "step-00000012"]
    assert resume(run, quiet=True) == dataclasses.replace(train(TINY, tmp_path / "other", quiet=True), run=run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves_with_a_status_of_its_own(number, tmp_path):
    run = tmp_path / "run"
    tiny = ["--model.name", "sew_7b", "--model.neuron", "IF", "--model.num-blocks", "2", "--optim.batch", "128"]
    command = [sys.executable, "-m", "spikewise", "train", "digits", *tiny, "--optim.epochs", "500", "--out", str(run)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"saved; go on with --resume {run}" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert checkpoint.newest(run / "checkpoints") is not None


def test_float16_on_a_cpu_is_refused_in_words(tmp_path):
    with pytest.raises(ValueError, match=r"precision float16 needs a GPU.*use bfloat16 or float32"):
        train(with_optim(precision="float16"), tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_bfloat16_learns(tmp_path):
    result = train(with_optim(precision="bfloat16", eval_precision="bfloat16"), tmp_path / "run", quiet=True)
    lines = trainer.rundir.read_lines(result.run / "metrics.jsonl")
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(name="digits", temporal_delete=4), "temporal_delete=4 is for event recordings; digits holds still images"),
        (Data(name="nmnist", warp=0.1), "is for images; nmnist holds event recordings"),
        (Data(name="digits", fold=0), "is for nmnist; digits has one split"),
    ],
)
def test_options_that_do_not_fit_the_data_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        load_data(dataclasses.replace(TINY, data=data), "train")


def test_a_gradient_that_stays_infinite_under_a_loss_scaler_stops_the_run():
    training, batches = begin()
    training.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    training.net.head.register_full_backward_hook(lambda _m, grads, _out: (grads[0] * float("nan"), *grads[1:]))
    for number in range(3):  # skipped, and the scale halved: 4, 2, 1
        training.step(*batches[number])
    with pytest.raises(NotFinite, match="the gradient is not finite even under a loss scale below 1 at step 3"):
        training.step(*batches[3])


def test_the_loss_scaler_comes_back(tmp_path, monkeypatch):
    training, batches = begin()
    training.scaler = torch.amp.GradScaler("cpu", init_scale=512.0, growth_interval=2)
    for number in range(3):
        training.step(*batches[number])
    (tmp_path / "checkpoints").mkdir()
    save(training, tmp_path)
    again, _ = begin()
    again.scaler = torch.amp.GradScaler("cpu")
    restore(again, tmp_path, Console(quiet=True))
    assert again.scaler.state_dict() == training.scaler.state_dict()
    assert again.scaler.get_scale() == 1024.0


def test_a_last_batch_too_small_for_batch_norm_is_refused_before_the_run(tmp_path):
    config = dataclasses.replace(TINY, model=Model(name="resnet18"), optim=Optim(batch=479, lr_batch=479, epochs=1))
    with pytest.raises(ValueError, match=r"the last batch of each epoch has one sample \(1,438 in batches of 479\)"):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_the_whole_group_saves_with_workers(name, tmp_path):
    command = [sys.executable, "-m", "spikewise", "train", "digits", "--workers", "2", "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "run" / "checkpoints" / "last").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, getattr(signal, name))
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name)
    assert "stopped behind step" in err
    assert "Traceback" not in err
    last = json.loads((tmp_path / "run" / "checkpoints" / "last" / "state.json").read_text())["step"]
    assert f"stopped behind step {last}, saved" in err


def test_workers_do_not_hold_the_lock_of_a_killed_run(tmp_path):
    command = [sys.executable, "-m", "spikewise", "train", "digits", "--workers", "2", "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "run" / "checkpoints" / "last").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
        with rundir.locked(tmp_path / "run"):
            pass
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused_in_words(tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(OSError, match=r"can't be written to: .*; give another folder with --out"):
        train(TINY, tmp_path / "run", quiet=True)


def test_a_containers_limit_is_what_is_free(tmp_path):
    assert faults.free_in_container(tmp_path) == float("inf")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 500\n")
    for limit, free in (("max\n", float("inf")), ("10000\n", 7500), ("1000\n", 0)):
        (tmp_path / "memory.max").write_text(limit)
        assert faults.free_in_container(tmp_path) == free
    assert 0 < faults.free_memory(torch.device("cpu")) <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
