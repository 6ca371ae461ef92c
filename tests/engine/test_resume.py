"""A run that was killed at any instant and resumed is the run that was not."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_training import TINY, with_optim

from spikewise.config import Keep
from spikewise.engine import checkpoint, disk, trainer
from spikewise.engine.build import load_data
from spikewise.engine.trainer import resume, train

SMALL = dataclasses.replace(
    with_optim(ema_decay=0.9, batch=32, lr_batch=32),
    model=dataclasses.replace(TINY.model, num_blocks=1),
    keep=dataclasses.replace(TINY.keep, every_steps=2, last=2),
)


@pytest.fixture(scope="module", autouse=True)
def _few_samples():
    """96 training and 64 test images: three steps an epoch, a run in a fraction of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "load_data", few_samples)
        yield


def few_samples(config, split):
    data = load_data(config, split)
    few = 96 if split == "train" else 64
    return dataclasses.replace(data, images=data.images[:few], labels=data.labels[:few])


class Crash(BaseException):
    """Stands for the end of the process: nothing catches it, nothing after it reaches the disk."""


CALLS = ("write", "fsync", "replace", "ftruncate", "symlink", "unlink", "rmdir")


class Dying:
    """The `os` of a process that ends at its n-th change of the disk: before it, or in the middle of a write."""

    def __init__(self, at):
        self.at, self.seen, self.dead = at, 0, False

    def __getattr__(self, name):
        real = getattr(os, name)
        return self.counted(name, real) if name in CALLS else real

    def counted(self, name, real):
        def call(*args, **kwargs):
            if self.dead:
                raise Crash
            self.seen += 1
            if self.seen == self.at:
                self.dead = True
                if name == "write":
                    descriptor, content = args
                    real(descriptor, bytes(content)[: len(content) // 2])
                raise Crash
            return real(*args, **kwargs)

        return call


def run_until(config, folder, at, monkeypatch):
    """Train, ending at the `at`-th change of the disk; how many changes there were."""
    dying = Dying(at)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "os", dying)
        try:
            if (folder / "config.json").exists():
                resume(folder, quiet=True)
            else:
                train(config, folder, quiet=True)
        except Crash:
            pass
    return dying.seen


def go_on(config, folder):
    """What a user does after a crash."""
    return resume(folder, quiet=True) if (folder / "config.json").exists() else train(config, folder, quiet=True)


def assert_same_run(folder, unbroken):
    assert (folder / "metrics.jsonl").read_bytes() == (unbroken / "metrics.jsonl").read_bytes()
    for name in ("last", "best"):
        for file in ("model.safetensors", "training.safetensors"):
            ours, theirs = (load_file(path / "checkpoints" / name / file) for path in (folder, unbroken))
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    names = [sorted(path.name for path in (where / "checkpoints").iterdir()) for where in (folder, unbroken)]
    assert names[0] == names[1]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    train(SMALL, folder, quiet=True)
    return folder


def test_a_run_that_dies_at_any_change_of_the_disk_goes_on_as_if_nothing_had_been(unbroken, tmp_path, monkeypatch):
    """Every write, sync, rename, truncation, link and removal in turn."""
    total = run_until(SMALL, tmp_path / "count", 10**9, monkeypatch)
    assert total > 60
    for at in range(1, total + 1):
        folder = tmp_path / "run"
        run_until(SMALL, folder, at, monkeypatch)
        go_on(SMALL, folder)
        assert_same_run(folder, unbroken)
        shutil.rmtree(folder)


def test_a_resume_that_dies_goes_on_too(unbroken, tmp_path, monkeypatch):
    for at in range(1, 40, 3):
        folder = tmp_path / "run"
        run_until(SMALL, folder, 70, monkeypatch)
        run_until(SMALL, folder, at, monkeypatch)
        go_on(SMALL, folder)
        assert_same_run(folder, unbroken)
        shutil.rmtree(folder)


def test_three_real_kills(unbroken, tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "config.json").write_text(trainer.to_json(SMALL))
    begin = (
        "import sys; from pathlib import Path; from spikewise.config import from_json; from spikewise.engine.trainer import *\n"
        "import torch; torch.set_num_threads(int(sys.argv[3])); sys.path.insert(0, sys.argv[4])\n"
        "import test_resume; test_resume.trainer.load_data = test_resume.few_samples\n"
        "run = Path(sys.argv[2])\n"
        "if (run / 'config.json').exists(): resume(run, quiet=True)\n"
        "else: train(from_json(Path(sys.argv[1]).read_text()), run, quiet=True)\n"
    )
    command = [sys.executable, "-c", begin, str(tmp_path / "config.json"), str(folder), str(torch.get_num_threads())]
    command += [str(Path(__file__).parent)]
    for kill in range(3):
        process = subprocess.Popen(command)
        before = progress(folder)
        while progress(folder) == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(0.01 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, check=False).returncode == 0
    assert_same_run(folder, unbroken)


def progress(folder):
    """What checkpoints there are."""
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*")) if folder.exists() else []


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_buffers_of_every_optimizer_come_back(optimizer, tmp_path):
    config = dataclasses.replace(SMALL, optim=dataclasses.replace(SMALL.optim, optimizer=optimizer, lr=0.01))
    train(config, tmp_path / "unbroken", quiet=True)
    stop_after(config, tmp_path / "run", steps=4)
    resume(tmp_path / "run", quiet=True)
    assert_same_run(tmp_path / "run", tmp_path / "unbroken")


def stop_after(config, folder, steps):
    """Begin a run and leave it behind step `steps`, as a signal would."""
    step = trainer.Training.step

    def count(self, *batch):
        loss = step(self, *batch)
        if self.steps_done == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    trainer.Training.step = count
    try:
        with pytest.raises(trainer.faults.Interrupted, match=f"stopped behind step {steps}, saved"):
            train(config, folder, quiet=True)
    finally:
        trainer.Training.step = step


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_run_stopped_by_a_signal_at_any_step_goes_on_to_the_same_end(steps, tmp_path):
    config = dataclasses.replace(SMALL, keep=TINY.keep)
    train(config, tmp_path / "unbroken", quiet=True)
    stop_after(config, tmp_path / "run", steps)
    resume(tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "unbroken" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("file", ["model.safetensors", "training.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "empty"])
def test_a_damaged_checkpoint_is_passed_over_for_the_newest_whole_one(file, damage, unbroken, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    path = checkpoint.steps(folder / "checkpoints")[-1] / file
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes({"cut": content[:-1], "flip": content, "empty": b""}[damage])
    resume(folder)
    assert f"passed over {path.parent.name}" in capsys.readouterr().err
    assert_same_run(folder, unbroken)


def test_a_finished_run_says_so(unbroken, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    result = resume(folder)
    assert "is finished: 2 epochs" in capsys.readouterr().err
    assert result.final == trainer.rundir.read_lines(folder / "metrics.jsonl")[-1]["test_accuracy"]
    assert_same_run(folder, unbroken)


def test_more_epochs_go_on_from_the_end(unbroken, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    resume(folder, epochs=3)
    assert "2 -> 3 epochs" in capsys.readouterr().err
    lines = trainer.rundir.read_lines(folder / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert (folder / "metrics.jsonl").read_bytes().startswith((unbroken / "metrics.jsonl").read_bytes())
    with pytest.raises(ValueError, match="--epochs 2 is fewer than the 3 of the run"):
        resume(folder, epochs=2, quiet=True)


def test_a_run_without_a_checkpoint_starts_over(unbroken, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    shutil.rmtree(folder / "checkpoints")
    resume(folder)
    assert "has no whole checkpoint: starting over" in capsys.readouterr().err
    assert_same_run(folder, unbroken)


def test_other_conditions_are_said_to_break_the_promise(unbroken, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    file = folder / "environment.json"
    file.write_text(file.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
    resume(folder, epochs=3)
    assert "under other conditions (torch '1.0' ->" in capsys.readouterr().err


def test_tensorboard_has_every_point_once(unbroken, tmp_path):
    folder = tmp_path / "run"
    stop_after(SMALL, folder, steps=5)
    resume(folder, quiet=True)
    files = list((folder / "tensorboard").iterdir())
    assert len(files) == 1
    assert read_curve(files[0], "test/accuracy") == [1, 2]


def read_curve(file, tag):
    """The steps at which TensorBoard's file has a value of `tag`."""
    import struct

    from tensorboardX.proto.event_pb2 import Event

    content, steps = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        steps += [event.step for value in event.summary.value if value.tag == tag]
        content = content[12 + length + 4 :]
    return steps


def test_a_checkpoint_of_another_network_is_refused(unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"num_blocks": 1', '"num_blocks": 2').replace('"epochs": 2', '"epochs": 3'))
    with pytest.raises(ValueError, match="is a checkpoint of another network or optimiser: tensors differ"):
        resume(folder, quiet=True)


def test_a_checkpoint_of_a_newer_format_is_refused(unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    state = checkpoint.steps(folder / "checkpoints")[-1] / "state.json"
    state.write_text(state.read_text().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(ValueError, match="has format 9, newer than 1; update spikewise"):
        resume(folder, quiet=True)


def test_old_checkpoints_are_kept_as_asked(tmp_path):
    config = dataclasses.replace(
        SMALL, optim=dataclasses.replace(SMALL.optim, epochs=4), keep=Keep(last=1, best=False, every_epochs=2)
    )
    train(config, tmp_path / "run", quiet=True)
    assert [path.name for path in checkpoint.steps(tmp_path / "run" / "checkpoints")] == ["step-00000006", "step-00000012"]


def test_memory_layouts_of_a_resumed_run_are_those_of_a_fresh_one(unbroken):
    config = trainer.rundir.read_config(unbroken)
    data = few_samples(config, "train")
    fresh, again = (trainer.Training(config, data, torch.device("cpu")) for _ in range(2))
    batches = trainer.TrainingBatches(config, data, fresh.order)
    fresh.step(*batches[0])
    path, _ = checkpoint.newest(unbroken / "checkpoints")
    checkpoint.load(path, again.evaluated, again.net, again.optimizer)
    layouts = [
        {name: t.stride() for name, t in {**w.net.state_dict(), **checkpoint.optimizer_state(w.net, w.optimizer)[0]}.items()}
        for w in (fresh, again)
    ]
    assert layouts[0] == layouts[1]
