"""A run that was killed at any instant and resumed is the run that was not."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_training import TINY, with_optim

from dying import Crash, Dying
from spikewise import disk
from spikewise.config import Retention
from spikewise.engine import loop as trainer
from spikewise.engine.build import load_data
from spikewise.engine.loop import resume, train
from spikewise.engine.run import checkpoint
from spikewise.engine.run.fingerprint import changes, identity

SMALL = dataclasses.replace(
    with_optim(ema_decay=0.9, batch=32, lr_batch=32),
    model=dataclasses.replace(TINY.model, num_blocks=1),
    retention=dataclasses.replace(TINY.retention, every_steps=2, last=2, probe_every_steps=2),
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
    for name in ("metrics.jsonl", "probe.jsonl"):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes()
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


def test_a_run_may_stop_after_an_epoch_and_go_on(tmp_path):
    unbroken = train(SMALL, tmp_path / "unbroken", quiet=True)
    part = train(SMALL, tmp_path / "run", quiet=True, until=1)
    assert len(trainer.rundir.read_lines(part.run / "metrics.jsonl")) == 1
    for until in (1, 9):
        with pytest.raises(ValueError, match=f"until={until} is out of range; use 2 to 2: 1 of 2 epochs are done"):
            resume(part.run, quiet=True, until=until)
    resume(part.run, quiet=True)
    assert_same_run(part.run, unbroken.run)
    assert resume(part.run, quiet=True, until=2).final == unbroken.final  # finished: only the result


def test_a_run_that_dies_at_any_change_of_the_disk_goes_on_as_if_nothing_had_been(unbroken, tmp_path, monkeypatch):
    """Every opening, write, sync, rename, truncation, link, making and removal in turn."""
    total = run_until(SMALL, tmp_path / "count", 10**9, monkeypatch)
    assert total > 100
    for at in range(1, total + 1):
        folder = tmp_path / "run"
        run_until(SMALL, folder, at, monkeypatch)
        go_on(SMALL, folder)
        assert_same_run(folder, unbroken)
        shutil.rmtree(folder)


def test_a_resume_that_dies_goes_on_too(unbroken, tmp_path, monkeypatch):
    half = run_until(SMALL, tmp_path / "count", 10**9, monkeypatch) // 2
    run_until(SMALL, tmp_path / "half", half, monkeypatch)
    total = run_until(SMALL, tmp_path / "half", 10**9, monkeypatch)
    for at in range(1, total + 1):
        folder = tmp_path / "run"
        run_until(SMALL, folder, half, monkeypatch)
        run_until(SMALL, folder, at, monkeypatch)
        go_on(SMALL, folder)
        assert_same_run(folder, unbroken)
        shutil.rmtree(folder)


def test_three_real_kills(unbroken, tmp_path):
    folder = tmp_path / "run"
    (tmp_path / "config.json").write_text(trainer.to_json(SMALL))
    begin = (
        "import sys; from pathlib import Path; from spikewise.config import from_json; from spikewise.engine.trainer import *\n"
        "import torch; torch.set_num_threads(int(sys.argv[3])); sys.path[:0] = sys.argv[4:]\n"
        "import test_resume; test_resume.trainer.load_data = test_resume.few_samples\n"
        "run = Path(sys.argv[2])\n"
        "if (run / 'config.json').exists(): resume(run, quiet=True)\n"
        "else: train(from_json(Path(sys.argv[1]).read_text()), run, quiet=True)\n"
    )
    command = [sys.executable, "-c", begin, str(tmp_path / "config.json"), str(folder), str(torch.get_num_threads())]
    command += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
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
    config = dataclasses.replace(SMALL, retention=TINY.retention)
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


def test_a_run_without_a_checkpoint_starts_over_unless_it_had_one(unbroken, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    shutil.rmtree(folder / "checkpoints")
    before = (folder / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"has 2 epochs in metrics.jsonl but no whole checkpoint: put one back"):
        resume(folder)
    assert (folder / "metrics.jsonl").read_bytes() == before
    (folder / "metrics.jsonl").write_bytes(before.splitlines(keepends=True)[0])  # as if it had died before its first checkpoint
    resume(folder)
    assert "has no whole checkpoint: starting over" in capsys.readouterr().err
    assert_same_run(folder, unbroken)


def test_checkpoints_that_were_passed_over_do_not_crowd_out_new_ones(unbroken, tmp_path):
    folder = tmp_path / "run"
    config = dataclasses.replace(SMALL, retention=dataclasses.replace(SMALL.retention, last=1, best=False))
    stop_after(config, folder, steps=2)
    for step in (4, 999):
        damaged = folder / "checkpoints" / f"step-{step:08d}"
        shutil.copytree(folder / "checkpoints" / "step-00000002", damaged)
        (damaged / "state.json").write_text("[" * 100_000)
        (damaged / "notes").mkdir()
    resume(folder, quiet=True)
    assert [path.name for path in checkpoint.steps(folder / "checkpoints")] == ["step-00000006"]
    assert (folder / "checkpoints" / "last").resolve().is_dir()


def test_a_run_that_came_in_between_is_not_overwritten(tmp_path, monkeypatch):
    """Another process trains into the folder after it was found empty."""
    folder, real = tmp_path / "run", trainer.require_disk

    def meanwhile(training, run):
        monkeypatch.setattr(trainer, "require_disk", real)
        train(SMALL, folder, quiet=True)

    monkeypatch.setattr(trainer, "require_disk", meanwhile)
    with pytest.raises(FileExistsError, match="exists and is not empty"):
        train(dataclasses.replace(SMALL, seed=1), folder, quiet=True)
    assert trainer.rundir.read_config(folder).seed == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"batch": 32', '"batch": 16', r"optim.batch 32 -> 16"),
        ('"optimizer": "sgd"', '"optimizer": "adam"', r"optim.optimizer 'sgd' -> 'adam'"),
        ('"seed": 0', '"seed": 3', r"seed 0 -> 3"),
        ('"connect": "ADD"', '"connect": "AND"', r"model.connect 'ADD' -> 'AND'"),
        ('"epochs": 2', '"epochs": 1', r"optim.epochs 2 -> 1"),
    ],
)
def test_a_config_that_was_changed_is_refused(old, new, message, unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    config = folder / "config.json"
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"was changed since its checkpoint of step 6: {message}; put it back, or begin"):
        resume(folder, quiet=True)


def test_other_data_is_refused(unbroken, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    monkeypatch.setattr(trainer, "load_data", load_data)
    with pytest.raises(ValueError, match="samples 96 -> 1438, labels"):
        resume(folder, epochs=3, quiet=True)


def test_a_metrics_file_that_lost_something_is_refused_before_training(unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    metrics = folder / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"metrics.jsonl has 100 bytes where the checkpoint saw \d+: put the lost part back"):
        resume(folder, epochs=3, quiet=True)
    assert len(metrics.read_bytes()) == 100


def test_timing_has_one_line_per_epoch_after_a_resume(unbroken, tmp_path):
    folder = tmp_path / "run"
    stop_after(SMALL, folder, steps=5)
    with (folder / "timing.jsonl").open("a") as file:
        file.write('{"epoch": 2, "sec')
    resume(folder, quiet=True)
    assert [line["epoch"] for line in trainer.rundir.read_lines(folder / "timing.jsonl")] == [1, 2]


@pytest.mark.parametrize("content", ["[]", "3", '{"resumed": null}', "{", '{"resumed": [1]}'])
def test_a_strange_environment_file_does_not_stop_a_resume(content, unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    (folder / "environment.json").write_text(content)
    assert resume(folder, epochs=3, quiet=True).mean_over == 3


def test_once_under_other_conditions_is_remembered(unbroken, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder, symlinks=True)
    file = folder / "environment.json"
    environment = json.loads(file.read_text())
    file.write_text(json.dumps({**environment, "resumed": [{**environment, "threads": 64}]}))
    resume(folder, epochs=3)
    assert "under other conditions (threads 64 -> 1)" in capsys.readouterr().err


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
    with pytest.raises(ValueError, match=r"was changed since its checkpoint of step 6: model.num_blocks 1 -> 2"):
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
        SMALL, optim=dataclasses.replace(SMALL.optim, epochs=4), retention=Retention(last=1, best=False, every_epochs=2)
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


def test_a_field_younger_than_a_checkpoint_had_its_default_then():
    now = identity(TINY, np.arange(3))
    then = {name: value for name, value in now.items() if name != "data.split_by"}
    assert changes(then, now) == []
    assert changes(then, now | {"data.split_by": "duration"}) == ["data.split_by 'count' -> 'duration'"]
    assert changes(now, now | {"data.cache": True}) == []
