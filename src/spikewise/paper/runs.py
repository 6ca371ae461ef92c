"""Runs of the published recipes: trained as far as is asked for, gone on with, or published weights in their place."""

import dataclasses
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Config
from ..engine.build import choose_device, load_data
from ..engine.evaluate import evaluate_network
from ..engine.loop import resume, train
from ..engine.run.fingerprint import describe_changes, flatten_config
from ..engine.run.folder import CONFIG, ENVIRONMENT, METRICS, TIMING, read_config, read_lines
from ..models.network import Network
from ..models.weights import load_pretrained
from ..recipes import RECIPES
from .arms import Arm
from .options import Options
from .page import Clock, machine, this_machine
from .stand_ins import stand_ins

EVALUATED = 32  # samples at a time
CHECK_EPOCHS, CHECK_BATCH = 2, 11


class Ran(NamedTuple):
    """What became of an arm.

    lines:   its epochs, as metrics.jsonl has them
    run:     its folder; None where published weights were evaluated
    epochs:  of the whole recipe
    command: that makes the same run
    """

    arm: Arm
    lines: list[dict[str, Any]]
    run: Path | None
    epochs: int
    seconds: float
    command: str
    machine: str

    @property
    def whole(self) -> bool:
        return len(self.lines) == self.epochs


@contextmanager
def at_work(arms: tuple[Arm, ...], o: Options) -> Iterator[Options]:
    """The options to run with: as they are, or, for a check, with stand-in data and runs in a folder that is removed."""
    if not o.check:
        yield o
        return
    with tempfile.TemporaryDirectory() as folder:
        data = stand_ins(Path(folder) / "data", {RECIPES[arm.recipe]().data.name for arm in arms})
        yield dataclasses.replace(o, data_root=str(data), runs=Path(folder) / "runs")


def run_arm(arm: Arm, o: Options) -> Ran:
    """Train an arm, or go on with its run, up to the budget; or evaluate its published weights."""
    if o.weights is not None:
        return evaluated(arm, o, o.weights)
    assert o.runs is not None, "the caller says where"
    config, run = configured(arm, o), o.runs / f"{arm.folder}-{o.seed}"
    begun = (run / CONFIG).is_file()
    if begun:
        config = same_run(run, config)
    epochs = config.optim.epochs
    until = min(o.budget or epochs, epochs)
    if len(read_lines(run / METRICS)) < until:
        if begun:
            resume(run, data_root=o.data_root, device=o.device, workers=o.workers, stop_epoch=until)
        else:
            train(config, run, device=o.device, workers=o.workers, stop_epoch=until)
    lines = read_lines(run / METRICS)
    seconds = sum(line["seconds"] for line in read_lines(run / TIMING))
    return Ran(arm, lines, run, epochs, seconds, train_command(config, len(lines)), machines(run))


def same_run(run: Path, config: Config) -> Config:
    """The config of a run that is there, if it is the one asked for; in the precision of the device where it began.

    Raises:  ValueError that says what differs
    """
    there = read_config(run)
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, precision=there.optim.precision))
    if found := describe_changes(flatten_config(there), flatten_config(config)):
        raise ValueError(f"{run} was trained otherwise ({', '.join(found)}); ask for the same, or give another --out")
    return there


def configured(arm: Arm, o: Options) -> Config:
    """The recipe as published, but for what this machine or a check asks."""
    config = RECIPES[arm.recipe]()
    data, optim = dataclasses.replace(config.data, root=o.data_root, **arm.changes), config.optim
    if choose_device(o.device).type == "cpu" and optim.precision == "float16":
        optim = dataclasses.replace(optim, precision="float32" if o.check else "bfloat16")
    if o.check:
        optim = dataclasses.replace(optim, epochs=CHECK_EPOCHS, batch=CHECK_BATCH, lr_batch=CHECK_BATCH)
        if data.name == "imagenet":
            data = dataclasses.replace(data, size=64)
    if o.batch_size is not None:
        optim = dataclasses.replace(optim, batch=o.batch_size)
    return dataclasses.replace(config, seed=o.seed, data=data, optim=optim)


def train_command(config: Config, done: int) -> str:
    """What `spikewise train` is told to make the same run; where data lies is left to SPIKEWISE_DATA."""
    published, ours = flatten_config(RECIPES[config.recipe]()), flatten_config(config)
    words = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in ours.items()
        if value != published[name] and name not in ("data.root", "data.cache")
    ]
    until = [f"--until {done}"] if done < config.optim.epochs else []
    return " ".join(["spikewise train", config.recipe, *words, *until])


def machines(run: Path) -> str:
    """Where a run was trained: every machine once."""
    found = json.loads((run / ENVIRONMENT).read_text())
    return "; ".join(dict.fromkeys(machine(one) for one in (found, *found.get("resumed", []))))


def published_network(arm: Arm, folder: Path, config: Config) -> Network:
    """The network of a published file of weights.

    Raises:  ValueError where none was published; FileNotFoundError where the folder does not hold it
    """
    if arm.weights is None:
        raise ValueError(f"no weights of {arm.name} were published; leave out --weights, to train it")
    return load_pretrained(folder / arm.weights, name=config.model.name, connect=config.model.connect, T=config.model.T)


def evaluated(arm: Arm, o: Options, folder: Path) -> Ran:
    """The published weights on the test split, as one epoch, the last."""
    clock, config, where = Clock(), configured(arm, o), choose_device(o.device)
    net = published_network(arm, folder, config).to(where)
    test, precision = load_data(config, "test"), config.optim.eval_precision
    found = evaluate_network(net, test, where, precision=precision, batch=EVALUATED, workers=o.workers or 0)
    epochs = RECIPES[arm.recipe]().optim.epochs
    line = {"epoch": epochs, "test_accuracy": found.accuracy, "test_correct5": found.correct_top5, "test_total": found.total}
    return Ran(arm, [line], None, epochs, float(clock), f"evaluated, not trained: {arm.weights}", this_machine(o.device))
