"""Kill a run at random moments, resume it, and compare with the run that was not killed; cut checkpoints, and see none loaded.

    .venv/bin/python benchmarks/reliability/kills.py --kills 100 --cuts 200

Each kill is a real SIGKILL to a process of its own, at a moment drawn at random; after every one the run is resumed and killed
again, until it ends. Whenever a run ends, its metrics.jsonl and its last tensors are compared, byte for byte, with the unbroken
run's.
"""

import dataclasses
import json
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
from spikewise.engine.run import folder as rundir

CONFIG = Config(
    recipe="kills",
    data=Data(name="digits", shift=1),
    model=Model(name="sew_7b", neuron="PLIF", num_blocks=1, T=2),
    optim=Optim(lr=0.1, lr_batch=128, batch=128, epochs=3, ema_decay=0.9),
    retention=Retention(every_steps=2),
)
WORKER = """
import sys
from pathlib import Path
import torch
from spikewise.config import from_json
from spikewise.engine.loop import resume, train
torch.set_num_threads(1)
config, run = Path(sys.argv[1]), Path(sys.argv[2])
if (run / "config.json").exists():
    resume(run, quiet=True)
else:
    train(from_json(config.read_text()), run, quiet=True)
"""


@dataclasses.dataclass
class Options:
    """How often to kill and to cut."""

    kills: int = 100
    cuts: int = 200
    seed: int = 0


def start(config: Path, run: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(config), str(run)], stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen) -> None:
    _, err = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"a run ended with status {process.returncode}:\n{err}")


def content(run: Path) -> list[bytes]:
    """What must be the same: metrics and the tensors of the last checkpoint."""
    last = run / rundir.CHECKPOINTS / "last"
    return [
        (run / rundir.METRICS).read_bytes(),
        (last / "model.safetensors").read_bytes(),
        (last / "training.safetensors").read_bytes(),
    ]


def kill_runs(folder: Path, options: Options, rng: random.Random) -> dict[str, int]:
    config, unbroken = folder / "config.json", folder / "unbroken"
    config.write_text(to_json(CONFIG))
    began = time.perf_counter()
    end(start(config, unbroken))
    lasts, expected = time.perf_counter() - began, content(unbroken)
    kills = finished = same = 0
    while kills < options.kills:
        run = folder / f"run{finished}"
        while True:
            process = start(config, run)
            try:
                process.wait(timeout=rng.uniform(0.3 * lasts, 1.05 * lasts))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            end(process)
            if process.returncode == 0:
                break
        finished += 1
        same += content(run) == expected
        shutil.rmtree(run)
    return {"kills": kills, "runs_finished": finished, "runs_identical": same}


def cut_checkpoints(unbroken: Path, options: Options, rng: random.Random) -> dict[str, int]:
    """Cut a file of a whole checkpoint at a random byte: it must not count as whole."""
    whole = checkpoint.steps(unbroken / rundir.CHECKPOINTS)[-1]
    taken_for_whole = 0
    for _ in range(options.cuts):
        copy = whole.with_name("step-99999999")
        shutil.copytree(whole, copy)
        file = copy / rng.choice([path.name for path in whole.iterdir()])
        bytes_ = file.read_bytes()
        file.write_bytes(bytes_[: rng.randrange(len(bytes_))])
        found = checkpoint.newest(copy.parent)
        taken_for_whole += found is None or found[0] != whole
        shutil.rmtree(copy)
    return {"cuts": options.cuts, "taken_for_whole": taken_for_whole}


def main(options: Options) -> None:
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        outcome = kill_runs(folder, options, rng) | cut_checkpoints(folder / "unbroken", options, rng)
        outcome |= {"seconds": round(time.perf_counter() - began), "cpu": rundir.cpu_name()}
    print(json.dumps(outcome))
    if outcome["runs_identical"] != outcome["runs_finished"] or outcome["taken_for_whole"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main(tyro.cli(Options))
