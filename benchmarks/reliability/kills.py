"""Kill a run at random moments, resume it, and compare it with an uninterrupted one; truncate checkpoints: none may be loaded.

    .venv/bin/python benchmarks/reliability/kills.py --kills 100 --cuts 200
    .venv/bin/python benchmarks/reliability/kills.py --kills 100 --cuts 0 --processes 2

Each kill is a real SIGKILL to a process of its own, at a moment drawn at random; after every one the run is resumed and killed
again, until it ends. Whenever a run ends, its metrics.jsonl and its last tensors are compared, byte for byte, with those of an
uninterrupted run. With several processes it is one of them, drawn at random, that is killed: torchrun starts all again.
"""

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro

from spikewise.config import Config, Data, Model, Optim, Retention, to_json
from spikewise.engine.run import checkpoint
from spikewise.engine.run.folder import CHECKPOINTS, METRICS
from spikewise.native.processor import cpu_name

CONFIG = Config(
    recipe="kills",
    data=Data(name="digits", shift=1),
    model=Model(name="sew_7b", neuron="PLIF", num_blocks=1, T=2),
    optim=Optim(lr=0.1, lr_batch=128, batch=128, epochs=3, ema_decay=0.9),
    retention=Retention(every_steps=2),
)
WORKER = """
import os, sys
from pathlib import Path
import torch
from spikewise.config import from_json
from spikewise.engine.loop import resume, train
torch.set_num_threads(1)
config, run = Path(sys.argv[1]), Path(sys.argv[2])
if "RANK" in os.environ:
    config.with_name(f"rank{os.environ['RANK']}").write_text(str(os.getpid()))
    train(from_json(config.read_text()), run, quiet=True)
elif (run / "config.json").exists():
    resume(run, quiet=True)
else:
    train(from_json(config.read_text()), run, quiet=True)
"""


@dataclasses.dataclass
class Options:
    """How often to kill, how often to truncate a file, and how many processes train together."""

    kills: int = 100
    cuts: int = 200
    seed: int = 0
    processes: int = 1


def start(config: Path, run: Path, processes: int = 1) -> subprocess.Popen:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command += ["--max-restarts", "1000000"]
    worker = config.with_name("worker.py")
    worker.write_text(WORKER)
    return subprocess.Popen([*command, str(worker), str(config), str(run)], stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen) -> None:
    _, err = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"a run ended with status {process.returncode}:\n{err}")


def content(run: Path) -> list[bytes]:
    """What must be identical: metrics and the tensors of the last checkpoint."""
    last = run / CHECKPOINTS / "last"
    return [
        (run / METRICS).read_bytes(),
        (last / "model.safetensors").read_bytes(),
        (last / "training.safetensors").read_bytes(),
    ]


def kill_runs(folder: Path, options: Options, rng: random.Random) -> dict[str, int]:
    config, uninterrupted = folder / "config.json", folder / "uninterrupted"
    shards = 1 if options.processes == 1 else 2 * options.processes
    optim = dataclasses.replace(CONFIG.optim, shards=shards, batch=24 * shards if shards > 1 else 128)
    config.write_text(to_json(dataclasses.replace(CONFIG, optim=optim)))
    start_time = time.perf_counter()
    wait_for(start(config, uninterrupted))
    duration, expected = time.perf_counter() - start_time, content(uninterrupted)
    if options.processes > 1:
        return kill_ranks(config, expected, duration, options, rng)
    kills = finished = same = 0
    while kills < options.kills:
        run = folder / f"run{finished}"
        while True:
            process = start(config, run)
            try:
                process.wait(timeout=rng.uniform(0.3 * duration, 1.05 * duration))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            wait_for(process)
            if process.returncode == 0:
                break
        finished += 1
        same += content(run) == expected
        shutil.rmtree(run)
    return {"kills": kills, "runs_finished": finished, "runs_identical": same}


def kill_ranks(config: Path, expected: list[bytes], duration: float, options: Options, rng: random.Random) -> dict[str, int]:
    """Under a launcher, which starts all processes again whenever one is killed, at a random moment of its life.

    expected, duration:  of the uninterrupted run, of one process
    """
    kills = finished = same = 0
    while kills < options.kills:
        run = config.with_name(f"run{finished}")
        forget_ranks(config)
        process = start(config, run, options.processes)
        while process.poll() is None:
            victim = config.with_name(f"rank{rng.randrange(options.processes)}")
            while process.poll() is None and (kills == options.kills or not victim.exists()):
                time.sleep(0.1)  # until it has been started, however slow the machine
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=rng.uniform(0, duration))
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):  # it may have ended just now
                    os.kill(int(victim.read_text()), signal.SIGKILL)
                    kills += 1
                forget_ranks(config)
        wait_for(process)
        finished += 1
        same += content(run) == expected
        shutil.rmtree(run)
    return {"processes": options.processes, "kills": kills, "runs_finished": finished, "runs_identical": same}


def forget_ranks(config: Path) -> None:
    """Numbers of processes that have ended belong to nobody, or to others."""
    for file in config.parent.glob("rank*"):
        file.unlink()


def cut_checkpoints(uninterrupted: Path, options: Options, rng: random.Random) -> dict[str, int]:
    """Truncate a file of an intact checkpoint at a random byte: the checkpoint must not count as intact."""
    intact = checkpoint.list_checkpoints(uninterrupted / CHECKPOINTS)[-1]
    accepted = 0
    for _ in range(options.cuts):
        copy = intact.with_name("step-99999999")
        shutil.copytree(intact, copy)
        file = copy / rng.choice([path.name for path in intact.iterdir()])
        os.truncate(file, rng.randrange(file.stat().st_size))
        accepted += checkpoint.latest_valid(copy.parent)[0] != intact
        shutil.rmtree(copy)
    return {"cuts": options.cuts, "taken_for_whole": accepted}


def main(options: Options) -> None:
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start_time = time.perf_counter()
        outcome = kill_runs(folder, options, rng) | cut_checkpoints(folder / "uninterrupted", options, rng)
        outcome |= {"seconds": round(time.perf_counter() - start_time), "cpu": cpu_name()}
    print(json.dumps(outcome))
    if outcome["runs_identical"] != outcome["runs_finished"] or outcome["taken_for_whole"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main(tyro.cli(Options))
