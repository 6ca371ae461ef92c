"""Runs on file systems without symbolic links (cloud drives, exFAT) or locks (some cluster file systems)."""

import errno
import fcntl
import os
from dataclasses import replace

import pytest
from tiny import TINY

import spikewise as sw
from spikewise.cli.main import main
from spikewise.engine.loop import resume, train


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
