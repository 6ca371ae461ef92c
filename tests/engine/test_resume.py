"""A run that was killed at any moment and resumed is the run that was not."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event
from tiny import CPU, TINY, with_optim

from dying import Crash, Dying
from spikewise import disk
from spikewise.config import Retention, to_json
from spikewise.engine import loop
from spikewise.engine.build import load_data
from spikewise.engine.errors import Interrupted
from spikewise.engine.loader import TrainingBatches
from spikewise.engine.loop import resume, train
from spikewise.engine.run import checkpoint
from spikewise.engine.run.background import Background, run
from spikewise.engine.run.fingerprint import describe_changes, run_fingerprint
from spikewise.engine.run.folder import read_config, read_lines
from spikewise.engine.step import TrainState

SMALL = dataclasses.replace(
    with_optim(ema_decay=0.9, batch=32, lr_batch=32),
    model=dataclasses.replace(TINY.model, num_blocks=1),
    retention=dataclasses.replace(TINY.retention, every_steps=2, last=2, probe_every_steps=2),
)


@pytest.fixture(scope="module", autouse=True)
def _few_samples():
    """96 training and 64 test images: three steps an epoch, a run in a fraction of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "load_run_data", few_samples)
        yield


def few_samples(config, split, *_world):
    data = load_data(config, split)
    few = 96 if split == "train" else 64
    return dataclasses.replace(data, images=data.images[:few], labels=data.labels[:few])


class AtOnce(Background):
    """A thread that is always faster than training."""

    def begin(self, *job):
        run(*job)


class AtTheLast(Background):
    """A thread that does nothing until it is waited for."""

    def begin(self, *job):
        self.waited_for = threading.Event()
        threading.Thread(target=lambda waited_for: waited_for.wait() and run(*job), args=(self.waited_for,)).start()

    def wait(self):
        if self.job is not None:
            self.waited_for.set()
        super().wait()

    def __exit__(self, *error):
        if self.job is not None:
            self.waited_for.set()
        super().__exit__(*error)


def start_or_resume(config, folder):
    """What a user does after a crash."""
    return resume(folder, quiet=True) if (folder / "config.json").exists() else train(config, folder, quiet=True)


def die_at(number, config, folder, monkeypatch):
    """Train or resume, and die at the change of the disk with this number; how many changes there were."""
    dying = Dying(number)
    with monkeypatch.context() as patch, contextlib.suppress(Crash):
        patch.setattr(disk, "os", dying)
        start_or_resume(config, folder)
    return dying.num_changes


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


def assert_survives(deaths, unbroken, run, monkeypatch):
    """A run that dies at these changes of the disk, one after the other, ends as the unbroken one."""
    for number in deaths:
        die_at(number, SMALL, run, monkeypatch)
    start_or_resume(SMALL, run)
    assert_same_run(run, unbroken)
    shutil.rmtree(run)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    train(SMALL, folder, quiet=True)
    return folder


@pytest.fixture
def folder(unbroken, tmp_path):
    """A copy of the unbroken run."""
    return shutil.copytree(unbroken, tmp_path / "run", symlinks=True)


def stop_after(config, folder, steps):
    """Begin a run and stop it after so many steps, as a signal would."""
    step = TrainState.step

    def step_and_signal(self, *batch):
        loss = step(self, *batch)
        if self.steps_done == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainState, "step", step_and_signal)
        with pytest.raises(Interrupted, match=f"stopped after step {steps}, saved"):
            train(config, folder, quiet=True)


def test_a_run_may_stop_after_an_epoch_and_continue(unbroken, tmp_path):
    run = train(SMALL, tmp_path / "run", quiet=True, stop_epoch=1).run
    assert len(read_lines(run / "metrics.jsonl")) == 1
    for stop_epoch in (1, 9):
        with pytest.raises(ValueError, match=f"stop_epoch={stop_epoch} is out of range; use 2 to 2: 1 of 2 epochs are done"):
            resume(run, quiet=True, stop_epoch=stop_epoch)
    result = resume(run, quiet=True)
    assert_same_run(run, unbroken)
    assert resume(run, quiet=True, stop_epoch=2) == result  # finished: only the result


@pytest.mark.parametrize(("schedule", "large"), [(AtOnce, disk.LARGE), (AtTheLast, 2 * disk.PAGE)])
def test_a_run_that_dies_at_any_change_of_the_disk_continues_as_if_nothing_had_happened(
    schedule, large, unbroken, tmp_path, monkeypatch
):
    """Every opening, write, sync, rename, truncation, link, making and removal in turn, those of the thread that writes
    checkpoints before and after all that training writes meanwhile; tensors through the file cache, and past it.
    """
    monkeypatch.setattr(loop, "Background", schedule)
    monkeypatch.setattr(disk, "LARGE", large)
    num_changes = die_at(10**9, SMALL, tmp_path / "count", monkeypatch)
    assert num_changes > 100
    for number in range(1, num_changes + 1):
        assert_survives([number], unbroken, tmp_path / "run", monkeypatch)


def test_a_resume_that_dies_continues_too(unbroken, tmp_path, monkeypatch):
    half = die_at(10**9, SMALL, tmp_path / "count", monkeypatch) // 2
    die_at(half, SMALL, tmp_path / "half", monkeypatch)
    for number in range(1, die_at(10**9, SMALL, tmp_path / "half", monkeypatch) + 1):
        assert_survives([half, number], unbroken, tmp_path / "run", monkeypatch)


def test_three_real_kills(unbroken, tmp_path):
    run = tmp_path / "run"
    (tmp_path / "config.json").write_text(to_json(SMALL))
    script = (
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(int(sys.argv[3]))\n"
        "sys.path[:0] = sys.argv[4:]; import test_resume; from spikewise.config import from_json\n"
        "test_resume.loop.load_run_data = test_resume.few_samples\n"
        "test_resume.start_or_resume(from_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "config.json"), str(run), str(torch.get_num_threads())]
    command += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    for kill in range(3):
        process = subprocess.Popen(command)
        before = set(run.glob("checkpoints/step-*"))
        while set(run.glob("checkpoints/step-*")) == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(0.01 * kill)
        process.kill()
        process.wait()
    assert subprocess.run(command, check=False).returncode == 0
    assert_same_run(run, unbroken)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_buffers_of_every_optimizer_come_back(optimizer, tmp_path):
    config = with_optim(SMALL, optimizer=optimizer, lr=0.01)
    train(config, tmp_path / "unbroken", quiet=True)
    stop_after(config, tmp_path / "run", steps=4)
    resume(tmp_path / "run", quiet=True)
    assert_same_run(tmp_path / "run", tmp_path / "unbroken")


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_run_stopped_by_a_signal_at_any_step_continues_to_the_same_end(steps, unbroken, tmp_path):
    stop_after(dataclasses.replace(SMALL, retention=TINY.retention), tmp_path / "run", steps)
    resume(tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (unbroken / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("file", ["model.safetensors", "training.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "empty"])
def test_a_damaged_checkpoint_is_skipped_for_the_newest_intact_one(file, damage, folder, unbroken, capsys):
    path = checkpoint.list_checkpoints(folder / "checkpoints")[-1] / file
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes({"cut": content[:-1], "flip": content, "empty": b""}[damage])
    resume(folder)
    assert f"skipped {path.parent.name}" in capsys.readouterr().err
    assert_same_run(folder, unbroken)


def test_a_finished_run_says_so(folder, unbroken, capsys):
    result = resume(folder)
    assert "is finished: 2 epochs" in capsys.readouterr().err
    assert result.final == read_lines(folder / "metrics.jsonl")[-1]["test_accuracy"]
    assert_same_run(folder, unbroken)


def test_more_epochs_continue_from_the_end(folder, unbroken, capsys):
    resume(folder, epochs=3)
    assert "2 -> 3 epochs" in capsys.readouterr().err
    assert [line["epoch"] for line in read_lines(folder / "metrics.jsonl")] == [1, 2, 3]
    assert (folder / "metrics.jsonl").read_bytes().startswith((unbroken / "metrics.jsonl").read_bytes())
    with pytest.raises(ValueError, match="--epochs 2 is fewer than the 3 of the run"):
        resume(folder, epochs=2, quiet=True)


def test_a_run_without_a_checkpoint_starts_over_unless_it_had_one(folder, unbroken, capsys):
    shutil.rmtree(folder / "checkpoints")
    before = (folder / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"has 2 epochs in metrics.jsonl but no intact checkpoint"):
        resume(folder)
    assert (folder / "metrics.jsonl").read_bytes() == before
    (folder / "metrics.jsonl").write_bytes(before.splitlines(keepends=True)[0])  # as if it had died before its first checkpoint
    resume(folder)
    assert "has no intact checkpoint: starting over" in capsys.readouterr().err
    assert_same_run(folder, unbroken)


def test_skipped_checkpoints_do_not_crowd_out_new_ones(tmp_path):
    run = tmp_path / "run"
    stop_after(dataclasses.replace(SMALL, retention=dataclasses.replace(SMALL.retention, last=1, best=False)), run, steps=2)
    for step in (4, 999):
        damaged = run / "checkpoints" / f"step-{step:08d}"
        shutil.copytree(run / "checkpoints" / "step-00000002", damaged)
        (damaged / "state.json").write_text("[" * 100_000)
        (damaged / "notes").mkdir()
    resume(run, quiet=True)
    assert [path.name for path in checkpoint.list_checkpoints(run / "checkpoints")] == ["step-00000006"]
    assert (run / "checkpoints" / "last").resolve().is_dir()


def test_old_checkpoints_are_kept_as_asked(tmp_path):
    config = dataclasses.replace(with_optim(SMALL, epochs=4), retention=Retention(last=1, best=False, every_epochs=2))
    train(config, tmp_path / "run", quiet=True)
    names = [path.name for path in checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")]
    assert names == ["step-00000006", "step-00000012"]


def test_a_run_that_came_in_between_is_not_overwritten(tmp_path, monkeypatch):
    """Another process trains into the folder after it was found empty."""
    require_disk = loop.require_disk

    def train_meanwhile(_state, run):
        monkeypatch.setattr(loop, "require_disk", require_disk)
        train(SMALL, run, quiet=True)

    monkeypatch.setattr(loop, "require_disk", train_meanwhile)
    with pytest.raises(FileExistsError, match="exists and is not empty"):
        train(dataclasses.replace(SMALL, seed=1), tmp_path / "run", quiet=True)
    assert read_config(tmp_path / "run").seed == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("config.json", '"batch": 32', '"batch": 16', r"of step 6: optim.batch 32 -> 16"),
        ("config.json", '"optimizer": "sgd"', '"optimizer": "adam"', r"optim.optimizer 'sgd' -> 'adam'"),
        ("config.json", '"seed": 0', '"seed": 3', r"seed 0 -> 3"),
        ("config.json", '"connect": "ADD"', '"connect": "AND"', r"model.connect 'ADD' -> 'AND'"),
        ("config.json", '"num_blocks": 1', '"num_blocks": 2', r"model.num_blocks 1 -> 2"),
        ("config.json", '"epochs": 2', '"epochs": 1', r"was changed since .*: optim.epochs 2 -> 1; .* begin a new run"),
        ("checkpoints/last/state.json", '"format_version": 1', '"format_version": 9', "format 9, newer than 1; update"),
        ("metrics.jsonl", '"epoch": 2', '"epoch":2', r"metrics.jsonl has \d+ bytes, but had \d+"),
    ],
)
def test_another_config_a_newer_format_or_a_shorter_metrics_file_is_refused(file, old, new, message, folder):
    (folder / file).write_text((folder / file).read_text().replace(old, new))
    before = (folder / "metrics.jsonl").read_bytes()
    epochs = 3 if file == "metrics.jsonl" else None
    with pytest.raises(ValueError, match=message):
        resume(folder, epochs=epochs, quiet=True)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_other_data_is_refused(folder, monkeypatch):
    monkeypatch.setattr(loop, "load_run_data", load_data)
    with pytest.raises(ValueError, match="samples 96 -> 1438, labels"):
        resume(folder, epochs=3, quiet=True)


def test_timing_and_curves_have_every_epoch_once_after_a_resume(tmp_path):
    run = tmp_path / "run"
    stop_after(SMALL, run, steps=5)
    with (run / "timing.jsonl").open("a") as file:
        file.write('{"epoch": 2, "sec')
    resume(run, quiet=True)
    assert [line["epoch"] for line in read_lines(run / "timing.jsonl")] == [1, 2]
    (file,) = (run / "tensorboard").iterdir()
    assert curve_steps(file, "test/accuracy") == [1, 2]


def curve_steps(file, tag):
    """The steps at which a TensorBoard file has a value of `tag`."""
    content, steps = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        steps += [event.step for value in event.summary.value if value.tag == tag]
        content = content[12 + length + 4 :]
    return steps


@pytest.mark.parametrize("content", ["[]", "3", '{"resumed": null}', "{", '{"resumed": [1]}'])
def test_a_strange_environment_file_does_not_stop_a_resume(content, folder):
    (folder / "environment.json").write_text(content)
    assert resume(folder, epochs=3, quiet=True).num_averaged == 3


@pytest.mark.parametrize(
    ("first", "resumed", "message"),
    [({"torch": "1.0"}, {}, "torch '1.0' ->"), ({}, {"threads": 64}, "threads 64 -> 1")],
    ids=["at first", "in between"],
)
def test_another_setup_breaks_the_promise_once_and_for_all(first, resumed, message, folder, capsys):
    file = folder / "environment.json"
    environment = json.loads(file.read_text())
    file.write_text(json.dumps({**environment, **first, "resumed": [{**environment, **resumed}]}))
    resume(folder, epochs=3)
    err = capsys.readouterr().err
    assert f"on a different setup ({message}" in err
    assert "no longer bit-identical" in err


def test_memory_layouts_of_a_resumed_run_are_those_of_a_new_one(unbroken):
    config = read_config(unbroken)
    data = few_samples(config, "train")
    new, again = (TrainState(config, data, CPU) for _ in range(2))
    new.step(*TrainingBatches(config, data, new.order)[0])
    path, _ = checkpoint.latest_valid(unbroken / "checkpoints")
    checkpoint.load(path, again.eval_net, again.net, again.optimizer)
    strides = [
        {name: t.stride() for name, t in {**s.net.state_dict(), **checkpoint.optimizer_state(s.net, s.optimizer)[0]}.items()}
        for s in (new, again)
    ]
    assert strides[0] == strides[1]


def test_a_field_newer_than_a_checkpoint_had_its_default_then():
    now = run_fingerprint(TINY, np.arange(3))
    saved = {name: value for name, value in now.items() if name != "data.split_by"}
    assert describe_changes(saved, now) == []
    assert describe_changes(saved, now | {"data.split_by": "duration"}) == ["data.split_by 'count' -> 'duration'"]
    assert describe_changes(now, now | {"data.cache": True}) == []
