"""Runs on file systems without symbolic links (cloud drives, exFAT) or locks (some cluster file systems)."""

import errno
import fcntl
import mmap
import os
from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY

import spikewise as sw
from spikewise import disk
from spikewise.cli.main import main
from spikewise.engine import loop, metrics
from spikewise.engine.loop import resume, train
from spikewise.engine.tensorboard import TensorBoard


def refusing(code):
    def refuse(*_args, **_options):
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_run_goes_on_without_symbolic_links_and_says_so_once(code, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(os, "symlink", refusing(code))
        train(TINY, tmp_path / "run", device="cpu", stop_epoch=1)
        assert capsys.readouterr().err.count("no symbolic links here") == 1
        assert (tmp_path / "run" / "checkpoints" / "last").is_file()
        assert main(["evaluate", str(tmp_path / "run"), "--device", "cpu", "--checkpoint", "best"]) == 0
        resume(tmp_path / "run", device="cpu", quiet=True)
        without = sw.load_pretrained(tmp_path / "run").state_dict()
    train(TINY, tmp_path / "other", device="cpu", quiet=True)
    other = sw.load_pretrained(tmp_path / "other").state_dict()
    assert all((without[name] == other[name]).all() for name in other)
    resume(tmp_path / "run", device="cpu", quiet=True)  # where links are possible again
    assert (tmp_path / "run" / "checkpoints" / "last").is_symlink()


def test_a_run_goes_on_without_locks_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    train(replace(TINY, optim=replace(TINY.optim, epochs=1)), tmp_path / "run", device="cpu")
    assert capsys.readouterr().err.count("no locks here") == 1


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system has no way past its file cache")
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("size", [disk.LARGE - 1, disk.LARGE, disk.LARGE + disk.PAGE + 1])
@pytest.mark.parametrize("begin", [0, 1])
def test_large_files_are_written_whole_whether_or_not_the_file_cache_can_be_passed(size, begin, refused, tmp_path, monkeypatch):
    write, past_cache = os.write, []

    def noted(descriptor, content):
        past_cache.append(bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT))
        if past_cache[-1] and refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", noted)
    content = memoryview(mmap.mmap(-1, begin + size))[begin:]
    content[:] = np.random.default_rng(0).bytes(size)
    disk.write(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == content
    assert any(past_cache) == (size >= disk.LARGE)
    assert not past_cache[-1] or size % disk.PAGE == 0


@pytest.mark.parametrize("what", ["metrics.jsonl", "timing.jsonl", "checkpoint", "events"])
def test_a_full_disk_is_one_line_with_the_way_on(what, tmp_path, monkeypatch, capsys):
    """At the second epoch, wherever it is met; the run goes on to the same end, and `evaluate` names the epoch that it has."""
    run, full = tmp_path / "run", refusing(errno.ENOSPC)
    train(TINY, run, device="cpu", quiet=True, stop_epoch=1)
    with monkeypatch.context() as patch:
        if what == "checkpoint":
            patch.setattr(disk, "write", full)
        elif what == "events":
            patch.setattr(TensorBoard, "add_epoch", full)
        else:
            append = loop.append
            patch.setattr(loop, "append", lambda file, line: full() if file.name == what else append(file, line))
            patch.setattr(metrics, "append", lambda file, line: full() if file.name == what else append(file, line))
        assert main(["train", "--resume", str(run), "--device", "cpu", "--quiet"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"make room, then go on with spikewise train --resume {run}" in error
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    assert "unfinished: 1 of 2 epochs" in capsys.readouterr().out
    resume(run, device="cpu", quiet=True)
    train(TINY, tmp_path / "whole", device="cpu", quiet=True)
    for file in ("metrics.jsonl", "checkpoints/last/model.safetensors"):
        assert (run / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
