"""Runs of the published recipes: trained, resumed, or replaced by an evaluation of published weights."""

import dataclasses
import json
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Config
from ..conversion import calibration_samples, convert_ann, score_by_steps
from ..engine.build import choose_device, load_data
from ..engine.evaluate import evaluate_network, load_run
from ..engine.loop import resume, train
from ..engine.run.fingerprint import describe_changes, flatten_config
from ..engine.run.folder import CONFIG, ENVIRONMENT, METRICS, TIMING, read_config, read_lines
from ..models.network import Network
from ..models.weights import load_pretrained, save_pretrained
from ..recipes import RECIPES
from ..wording import unknown_name
from .experiments import Conversion, Experiment
from .options import Options
from .page import describe_machine, describe_this_machine
from .synthetic_data import write_synthetic_data

EVAL_BATCH = 32
CHECK_EPOCHS, CHECK_BATCH, CHECK_STEPS, CHECK_FRAMES, CHECK_WIDTH = 2, 6, 8, 4, 0.25
DURATIONS = ("data.time_window", "data.tau")  # microseconds in a config, written with their unit on the command line


class ExperimentRun(NamedTuple):
    """The outcome of an experiment.

    lines:   its epochs, as metrics.jsonl has them
    run:     its folder; None where published weights were evaluated
    epochs:  of the whole recipe
    command: that makes the same run, or how its numbers were made
    trained: epochs of the ReLU network, of a converted one; None: as many as there are lines
    began_complete: whether the network that it began with was trained to its end
    """

    experiment: Experiment
    lines: list[dict[str, Any]]
    run: Path | None
    epochs: int
    seconds: float
    command: str
    machine: str
    trained: int | None = None
    began_complete: bool = True

    @property
    def done(self) -> int:
        return len(self.lines) if self.trained is None else self.trained

    @property
    def is_complete(self) -> bool:
        return self.began_complete and self.done == self.epochs


@contextmanager
def experiment_environment(experiments: tuple[Experiment, ...], o: Options) -> Iterator[Options]:
    """The options to run with: as given, or, for a check, with synthetic data and runs in a temporary folder."""
    if not o.check:
        yield o
        return
    with tempfile.TemporaryDirectory() as folder:
        names = {RECIPES[experiment.recipe]().data.name for experiment in experiments}
        data = write_synthetic_data(Path(folder) / "data", names)
        yield dataclasses.replace(o, data_root=str(data), runs=Path(folder) / "runs")


def run_experiment(experiment: Experiment, o: Options) -> ExperimentRun:
    """Train an experiment up to `max_epochs`, or resume its run; convert what was trained; or evaluate published weights."""
    if o.weights is not None:
        return evaluate_published(experiment, o, o.weights)
    if experiment.conversion is not None:
        return run_conversion(experiment, experiment.conversion, o)
    return train_experiment(experiment, build_config(experiment, o), o)


def train_experiment(experiment: Experiment, config: Config, o: Options) -> ExperimentRun:
    """Train a config, or resume its run, up to `max_epochs`."""
    assert o.runs is not None, "the caller says where"
    run = o.runs / f"{experiment.run_name}-{o.seed}"
    started = (run / CONFIG).is_file()
    if started:
        config = require_same_run(run, config)
    epochs = config.optim.epochs
    until = min(o.max_epochs or epochs, epochs)
    if len(read_lines(run / METRICS)) < until:
        if started:
            resume(run, data_root=o.data_root, device=o.device, workers=o.workers, stop_epoch=until)
        else:
            train(config, run, device=o.device, workers=o.workers, stop_epoch=until)
    lines = read_lines(run / METRICS)
    seconds = sum(line["seconds"] for line in read_lines(run / TIMING))
    return ExperimentRun(experiment, lines, run, epochs, seconds, train_command(config, len(lines)), describe_machines(run))


def run_conversion(experiment: Experiment, how: Conversion, o: Options) -> ExperimentRun:
    """Train the ReLU network, convert it, and score it at the paper's T; where it says `then`, train it on before."""
    ann = run_experiment(experiment._replace(conversion=None, then=""), o)
    assert ann.run is not None, "it was trained"
    where, steps = choose_device(o.device), CHECK_STEPS if o.check else experiment.steps
    net, config = load_run(ann.run, data_root=o.data_root)
    images = calibration_samples(config, how.samples).to(where)
    twin = convert_ann(net.to(where), images, how.method, soft_reset=how.soft_reset, T=steps)
    command = f"{ann.command}; {how.command} --T {steps}"
    if experiment.then:
        folder = save_pretrained(twin, ann.run.with_name(f"{ann.run.name}-{how.name}")).parent
        config = dataclasses.replace(build_config(experiment._replace(recipe=experiment.then), o), weights=str(folder))
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, T=steps))
        run = train_experiment(experiment._replace(recipe=experiment.then, conversion=None), config, o)
        told = f"{command}; {run.command}"
        return run._replace(experiment=experiment, command=told, began_complete=ann.is_complete)
    start = time.perf_counter()
    score = score_by_steps(twin, load_data(config, "test"), [steps], where, batch=EVAL_BATCH)[steps]
    seconds = ann.seconds + time.perf_counter() - start
    line = {"epoch": ann.done, "test_accuracy": score.accuracy, "test_correct5": score.correct_top5, "test_total": score.total}
    return ExperimentRun(experiment, [line], ann.run, ann.epochs, seconds, command, ann.machine, trained=ann.done)


def require_same_run(run: Path, config: Config) -> Config:
    """The config of an existing run, in the precision of the device where it began.

    Raises:  ValueError that names what differs from the one asked for
    """
    existing = read_config(run)
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, precision=existing.optim.precision))
    if differences := describe_changes(flatten_config(existing), flatten_config(config)):
        raise ValueError(f"{run} was trained otherwise ({', '.join(differences)}); ask for the same, or give another --out")
    return existing


def build_config(experiment: Experiment, o: Options) -> Config:
    """The recipe as published, adapted to this machine, the options and a check."""
    config = RECIPES[experiment.recipe]()
    data = dataclasses.replace(config.data, root=o.data_root, **experiment.data_overrides)
    optim = config.optim
    if choose_device(o.device).type == "cpu" and optim.precision == "float16":
        optim = dataclasses.replace(optim, precision="float32" if o.check else "bfloat16")
    if o.check:
        optim = dataclasses.replace(optim, epochs=CHECK_EPOCHS, batch=CHECK_BATCH, lr_batch=CHECK_BATCH)
        if data.name == "imagenet":
            data = dataclasses.replace(data, size=64)
        else:
            kept = min(data.temporal_delete, CHECK_FRAMES - 1)
            data = dataclasses.replace(data, num_frames=CHECK_FRAMES, temporal_delete=kept)
        if o.weights is None:
            config = dataclasses.replace(config, model=dataclasses.replace(config.model, width=CHECK_WIDTH))
    if o.batch_size is not None:
        optim = dataclasses.replace(optim, batch=o.batch_size)
    return dataclasses.replace(config, seed=o.seed, data=data, optim=optim)


def train_command(config: Config, done: int) -> str:
    """The `spikewise train` command that makes the same run; where data lies is left to SPIKEWISE_DATA.

    Raises:  ValueError for a recipe that is not in RECIPES
    """
    if config.recipe not in RECIPES:
        raise ValueError(unknown_name("recipe", config.recipe, RECIPES, own=True))
    published, ours = flatten_config(RECIPES[config.recipe]()), flatten_config(config)
    words = [
        word
        for name, value in ours.items()
        if value != published[name] and name not in ("data.root", "data.cache", "imports")
        for word in option_words(name, value)
    ]
    modules = [word for module in config.imports for word in ("--import", module)]
    until = ["--stop-epoch", str(done)] if done < config.optim.epochs else []
    return shlex.join(["spikewise", "train", config.recipe, *modules, *words, *until])


def option_words(name: str, value: Any) -> list[str]:
    """A field of a config as the command line takes it."""
    section, dot, field = name.replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        return [f"--{section}{dot}{'' if value else 'no-'}{field}"]
    if name in DURATIONS and value is not None:
        value = f"{value}us"
    return [f"--{section}{dot}{field}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]


def describe_machines(run: Path) -> str:
    """Where a run was trained: every machine once."""
    env = json.loads((run / ENVIRONMENT).read_text())
    return "; ".join(dict.fromkeys(map(describe_machine, (env, *env.get("resumed", [])))))


def load_published(experiment: Experiment, folder: Path, config: Config, *, check: bool = False) -> Network:
    """The network of a published file of weights.

    check:   whether it is shown synthetic data, which has but a few of its classes: they are not matched by name then
    Raises:  ValueError where none was published; FileNotFoundError where the folder does not hold it
    """
    if experiment.weights is None:
        raise ValueError(f"no weights of {experiment.name} were published; leave out --weights, to train it")
    net = load_pretrained(folder / experiment.weights, name=config.model.name, connect=config.model.connect, T=config.model.T)
    if check:
        net.input_spec = None
    return net


def evaluate_published(experiment: Experiment, o: Options, folder: Path) -> ExperimentRun:
    """The published weights on the test split, as one epoch, the last."""
    start, config, where = time.perf_counter(), build_config(experiment, o), choose_device(o.device)
    net = load_published(experiment, folder, config, check=o.check).to(where)
    test, precision = load_data(config, "test"), config.optim.eval_precision
    result = evaluate_network(net, test, where, precision=precision, batch=EVAL_BATCH, workers=o.workers or 0)
    epochs, seconds = RECIPES[experiment.recipe]().optim.epochs, time.perf_counter() - start
    line = {"epoch": epochs, "test_accuracy": result.accuracy, "test_correct5": result.correct_top5, "test_total": result.total}
    command = f"evaluated, not trained: {experiment.weights}"
    return ExperimentRun(experiment, [line], None, epochs, seconds, command, describe_this_machine(o.device))
