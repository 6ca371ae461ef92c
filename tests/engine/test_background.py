"""Checkpoints are written while training goes on."""

import errno
import os
import threading
import time
from dataclasses import replace

import pytest
from tiny import TINY, begin, with_optim

from spikewise import disk
from spikewise.engine import saving
from spikewise.engine.loop import resume, train
from spikewise.engine.run import checkpoint
from spikewise.engine.run.background import Background
from spikewise.engine.saving import save_checkpoint
from spikewise.engine.step import TrainState

EVERY_STEP = replace(
    with_optim(epochs=1, batch=360, lr_batch=360),  # 4 steps
    model=replace(TINY.model, num_blocks=1),
    retention=replace(TINY.retention, every_steps=1, last=9),
)


def test_jobs_run_one_at_a_time_and_in_order():
    done, running = [], threading.Lock()

    def job(number):
        assert running.acquire(blocking=False)
        time.sleep(0.02)
        done.append(number)
        running.release()

    with Background() as writer:
        for number in range(3):
            writer.start(lambda number=number: job(number))
    assert done == [0, 1, 2]


def fail():
    raise OSError(errno.ENOSPC, "no space left")


def run_in_background(job, then=lambda _: None):
    with Background() as writer:
        writer.start(job)
        then(writer)


def check_until_raised(writer):
    while True:
        writer.check()
        time.sleep(0.001)


@pytest.mark.parametrize("then", [check_until_raised, Background.wait, lambda writer: writer.start(print), lambda _: None])
def test_an_error_of_the_thread_reaches_the_loop(then):
    with pytest.raises(OSError, match="no space left"):
        run_in_background(fail, then)


def test_an_error_of_the_loop_comes_first_and_the_job_ends():
    done = []
    with pytest.raises(ZeroDivisionError):
        run_in_background(lambda: time.sleep(0.05) or done.append(1) or fail(), lambda _: 1 / 0)
    assert done


def interrupt(_):
    raise KeyboardInterrupt


def test_a_second_interrupt_waits_for_nothing():
    released = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        run_in_background(released.wait, interrupt)
    released.set()


def test_a_snapshot_is_of_its_step_whatever_training_does_meanwhile(tmp_path):
    """The thread writes when the next step is done: weights, statistics, momentum, sums of the epoch are those of before."""
    state, batches = begin(with_optim(ema_decay=0.9))
    state.step(*batches[0])
    for run in ("at once", "later"):
        (tmp_path / run).mkdir()
    save_checkpoint(state, tmp_path / "at once")
    gate = threading.Event()
    with Background() as writer:
        start = writer.start
        writer.start = lambda work: start(lambda: gate.wait() and work())
        save_checkpoint(state, tmp_path / "later", writer=writer)
        state.step(*batches[1])
        gate.set()
    for file in ("model.safetensors", "training.safetensors", "state.json"):
        at_once, later = (tmp_path / run / "checkpoints" / "step-00000001" / file for run in ("at once", "later"))
        assert at_once.read_bytes() == later.read_bytes()


def test_a_slow_disk_loses_no_checkpoint_and_training_goes_on_meanwhile(tmp_path, monkeypatch):
    """Every checkpoint is one that a run saves which waits for each; and steps are done while one is written."""
    train(EVERY_STEP, tmp_path / "quick", quiet=True)
    step, write, steps_begun, begun_before_rename = TrainState.step_shards, disk.write, [], []

    def counted(self, shards):
        steps_begun.append(self.steps_done)
        return step(self, shards)

    def slowly(path, content):
        step_saved = int("".join(filter(str.isdecimal, path.parent.name)) or 0)
        if path.name == checkpoint.STATE_FILE and step_saved <= 3:
            deadline = time.monotonic() + 20
            while len(steps_begun) == step_saved and time.monotonic() < deadline:
                time.sleep(0.001)
            begun_before_rename.append(len(steps_begun) - step_saved)
        write(path, content)

    monkeypatch.setattr(TrainState, "step_shards", counted)
    monkeypatch.setattr(disk, "write", slowly)
    train(EVERY_STEP, tmp_path / "slow", quiet=True)
    assert begun_before_rename[:3] == [1, 1, 1]
    for path in checkpoint.list_checkpoints(tmp_path / "quick" / "checkpoints"):
        slow = tmp_path / "slow" / "checkpoints" / path.name
        assert checkpoint.find_corruption(slow) is None
        assert (slow / "training.safetensors").read_bytes() == (path / "training.safetensors").read_bytes()
        for what in ("meter", "metrics_bytes", "optimizer"):
            assert checkpoint.read_state(slow)[what] == checkpoint.read_state(path)[what]


def test_a_disk_that_fills_up_within_an_epoch_is_told_and_the_run_goes_on_to_the_same_end(tmp_path, monkeypatch):
    train(EVERY_STEP, tmp_path / "whole", quiet=True)
    write = disk.write

    def full(path, content):
        if "step-00000002" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write", full)
        with pytest.raises(OSError, match="make room, then go on with spikewise train --resume"):
            train(EVERY_STEP, tmp_path / "run", quiet=True)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if path.is_dir() and not path.is_symlink()] == [
        "step-00000001"
    ]
    resume(tmp_path / "run", quiet=True)
    for file in ("metrics.jsonl", "checkpoints/last/model.safetensors", "checkpoints/last/training.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_nothing_of_training_is_copied_twice(tmp_path, monkeypatch):
    """One copy of the state in memory: the next one is made when the one before is on the disk."""
    state, _ = begin()
    order = []
    monkeypatch.setattr(checkpoint, "snapshot", lambda *_: order.append("copy"))
    monkeypatch.setattr(saving, "write_checkpoint", lambda *_: time.sleep(0.02) or order.append("written"))
    monkeypatch.setattr(saving, "run_fingerprint", lambda *_: {})
    with Background() as writer:
        for _ in range(3):
            save_checkpoint(state, tmp_path, writer=writer)
    assert order == ["copy", "written"] * 3
