"""Processes that PyTorch's launcher starts: signals to any of them, kills, and what is said."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_processes import files_of

from spikewise.cli.main import main
from spikewise.engine.launch import status_of
from spikewise.engine.loop import resume
from spikewise.engine.signals import StopSignals

COMMAND = "digits --model.name sew_7b --model.neuron IF --model.num-blocks 1 --model.T 2 --device cpu --quiet "
COMMAND += "--optim.batch 48 --optim.lr-batch 48 --optim.shards 4 --retention.every-steps 2 --optim.epochs"
SECONDS = 120  # that anything may take here, on a busy machine


def torchrun(processes, *more):
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *more]


def train(run, epochs):
    return ["-m", "spikewise", "train", *COMMAND.split(), str(epochs), "--out", str(run)]


def ranks(launcher):
    """Process number of each rank that a launcher has started, by rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(launcher.pid):
                variables = (folder / "environ").read_bytes().split(b"\0")
                found |= {int(v[5:]): int(folder.name) for v in variables if v.startswith(b"RANK=")}
        except (OSError, ProcessLookupError):
            pass
    return found


def wait_until(holds, process=None):
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


@contextmanager
def started(command, run):
    """A launcher whose processes are past their first checkpoint."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            wait_until((run / "checkpoints" / "last").exists, process)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def steps_done(run):
    return json.loads((run / "checkpoints" / "last" / "state.json").read_text())["step"]


SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize("number", [SIGNALS[0], *(pytest.param(number, marks=pytest.mark.slow) for number in SIGNALS[1:])])
def test_a_signal_to_the_launcher_saves_once_and_gives_its_status(number, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, *train(run, 50), "--processes", "2"]
    with started(command, run) as launcher:
        before = steps_done(run)
        launcher.send_signal(number)
        _, err = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 128 + number
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if "stopped after step" in line]
    assert sorted(line.partition("stopped")[0] for line in lines) == ["spikewise: rank 0: ", "spikewise: rank 1: "]
    assert f"stopped after step {steps_done(run)}, saved; continue with --resume {run}" in lines[0]
    assert steps_done(run) >= before


@pytest.mark.parametrize("number", [SIGNALS[3], *(pytest.param(number, marks=pytest.mark.slow) for number in SIGNALS[:3])])
def test_a_stop_asked_of_one_rank_holds_for_those_that_the_launcher_starts_again(number, tmp_path):
    run = tmp_path / "run"
    with started([*torchrun(2, "--max-restarts", "1"), *train(run, 50)], run) as launcher:
        os.kill(ranks(launcher)[1], number)
        _, err = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode != 0
    stop = json.loads((run / "stopped.json").read_text())
    assert (stop["signal"], stop["message"]) == (
        number,
        f"stopped after step {steps_done(run)}, saved; continue with --resume {run}",
    )
    assert err.count("rank 0: stopped after step") == 2  # also by the processes that were started again
    assert f"exitcode  : {128 + number}" in err
    resume(run, device="cpu", quiet=True, stop_epoch=steps_done(run) // 30 + 1)
    assert not (run / "stopped.json").exists()


@pytest.mark.parametrize("kills", [[1], pytest.param([0, 2, 1], marks=pytest.mark.slow)], ids=["one kill", "three kills"])
def test_killed_ranks_are_started_again_and_the_run_is_the_same(kills, tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    size = max(kills) + 1
    with started([*torchrun(size, "--max-restarts", str(len(kills))), *train(run, 2)], run) as launcher:
        for rank in kills:
            before = steps_done(run)
            wait_until(lambda: steps_done(run) > before, launcher)  # noqa: B023  # called at once
            os.kill(ranks(launcher)[rank], signal.SIGKILL)
        _, err = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 0, err
    assert main(train(whole, 2)[2:]) == 0
    assert files_of(run) == files_of(whole)
    assert len(json.loads((run / "environment.json").read_text())["resumed"]) == len(kills)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("own", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["--processes", "torchrun"])
def test_a_launcher_that_is_killed_stops_its_ranks_and_they_save(own, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, *train(run, 99), "--processes", "2"] if own else [*torchrun(2), *train(run, 99)]
    with started(command, run) as launcher:
        started_ranks = ranks(launcher).values()
        launcher.kill()
        start = time.monotonic()
        wait_until(lambda: not any(map(is_running, started_ranks)))
        assert time.monotonic() - start < 30
        err = launcher.communicate(timeout=SECONDS)[1]
    assert len(started_ranks) == 2
    assert err.count(f"stopped after step {steps_done(run)}, saved") == 2


def test_a_rank_that_cannot_save_ends_soon_after_its_launcher():
    """The parent is killed while its child waits for something that takes longer."""
    rank = (
        "import time; from spikewise.engine import signals; signals.SECONDS_TO_SAVE = 0.1\n"
        "with signals.StopSignals().installed(), signals.stopped_with_parent():\n"
        "    print('waits', flush=True); time.sleep(99)"
    )
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {rank!r}])"
    with subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"waits\n"
        process.kill()
        start = time.monotonic()
        assert process.stdout.read() == b""  # open until the rank ends
        assert time.monotonic() - start < 30


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_is_remembered_but_a_hangup_that_nohup_ignores(number):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = StopSignals(patient=True)
    try:
        with stop.installed():
            for _ in range(2):  # patient: a second one changes nothing
                os.kill(os.getpid(), number)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stop.received == (0 if number == signal.SIGHUP else number)


def test_a_kill_counts_more_than_what_it_did_to_the_others(capsys):
    assert status_of({0: 2, 1: -9}) == 128 + 9
    assert "rank 1 was ended by signal 9" in capsys.readouterr().err
    assert status_of({0: 3, 1: 3}) == 3
    assert status_of({0: 2, 1: -15}) == 2  # the launcher ended rank 1, before it could handle that


def test_mistakes_are_told_once_before_processes_are_started(capsys, monkeypatch):
    for variables, words, message in (
        ({}, ["--processes", "0"], "--processes 0 is out of range; use 1 or more"),
        ({}, ["--processes", "3", "--optim.batch", "24", "--optim.shards", "2"], "3 processes for optim.shards=2"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, ["--processes", "2"], "rank 1: --processes 2 starts a launcher, and WORLD_SIZE=2"),
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            assert main(["train", "digits", *words]) == 2
        assert capsys.readouterr().err.startswith(f"spikewise: {message}")


def test_other_commands_are_for_one_process(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["evaluate", "nowhere"]) == 2
    assert "`spikewise evaluate` is for one process, and WORLD_SIZE=2; leave torchrun out" in capsys.readouterr().err


def test_an_error_in_every_process_is_a_line_of_each_and_the_status(tmp_path):
    """The folder is in use: rank 0 says so, rank 1 that it is alone."""
    (tmp_path / "mine.txt").write_text("keep")
    command = [sys.executable, *train(tmp_path, 1), "--processes", "2"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert ended.returncode == 2
    lines = sorted(line for line in ended.stderr.splitlines() if line.startswith("spikewise"))
    assert "rank 0:" in lines[0] and "exists and is not empty" in lines[0]
    assert "Traceback" not in ended.stderr
