"""Training: from a config to a run folder, and on from where one ended."""

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

from .. import disk
from ..config import Config, to_json
from ..data import Dataset
from . import faults
from .build import choose_device, load_data
from .evaluate import score
from .loader import TrainingBatches, Waiting, load, number_of_workers, ready
from .memory.allocator import keep_freed_memory
from .report import Console, Result, TensorBoard, record, results
from .run import checkpoint
from .run import folder as rundir
from .run.fingerprint import changes, identity
from .step import Meter, Training, guarded_step


def train(
    config: Config,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    quiet: bool = False,
    until: int | None = None,
) -> Result:
    """Train the network of a config and leave a run folder.

    out:      the run folder, new or empty; None is runs/RECIPE-SEED
    device:   auto, cpu, cuda or mps
    workers:  processes that make batches; 0: this one; None: as suits the device. The result does not depend on it
    quiet:    no progress bar, no lines
    until:    stop after this epoch, with the learning rates of the whole run; `resume` goes on
    Raises:   FileExistsError for a folder in use; ValueError for a config that does not fit; NotFinite when a loss or gradient
              is not finite, before that step changes a weight; OutOfMemory; Interrupted after SIGINT or SIGTERM
    """
    if not isinstance(config, Config):
        raise ValueError(f"train takes a Config, such as sw.RECIPES['digits'](), given {config!r}")
    run = Path(out or f"runs/{config.recipe.replace('/', '-')}-{config.seed}")
    rundir.require_new(run)
    require_workers(workers)
    require_until(until, 0, config)
    where = choose_device(device)
    training, test = Training(config, load_data(config, "train"), where), load_data(config, "test")
    require_fit(training)
    require_disk(training, run)
    with rundir.locked(run):
        rundir.require_new(run)  # another process may have come and gone meanwhile
        rundir.create(run, config, where)
        return go_on(training, test, run, number_of_workers(workers, where), quiet, until)


def resume(
    run: str | Path,
    *,
    epochs: int | None = None,
    data_root: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    quiet: bool = False,
    until: int | None = None,
) -> Result:
    """Go on with a run where it ended, to the bit on the machine where it began; of a finished run, only the result.

    epochs:     more epochs than the run was begun with (its learning rates change with it)
    data_root:  where the data lies now
    until:      stop after this epoch
    Raises:     what `train` raises; FileNotFoundError for a folder that is no run
    """
    run = Path(run)
    require_workers(workers)
    config = rundir.read_config(run)
    where, console = choose_device(device), Console(quiet)
    if epochs is not None and epochs != config.optim.epochs:
        if epochs < config.optim.epochs:
            raise ValueError(f"--epochs {epochs} is fewer than the {config.optim.epochs} of the run; give more, or none")
        console.line(f"{config.optim.epochs} -> {epochs} epochs: the learning rates from here on are those of {epochs} epochs")
        config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, epochs=epochs))
    if data_root is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=data_root))
    training, test = Training(config, load_data(config, "train"), where), load_data(config, "test")
    with rundir.locked(run):
        state = restore(training, run, console)
        if training.steps_done >= training.num_steps:
            save(training, run)  # it may have ended before its links were right
            console.line(f"{run} is finished: {config.optim.epochs} epochs")
            return results(run, config)
        require_until(until, training.steps_done // training.order.steps_per_epoch, config)
        disk.cut(run / rundir.METRICS, state.metrics_bytes if state else 0)
        kept = {rundir.TIMING: state.timing_bytes, rundir.PROBE: state.probe_bytes} if state else {}
        for name in (rundir.TIMING, rundir.PROBE):
            if (run / name).exists():
                disk.cut(run / name, min(kept.get(name, 0), rundir.length(run / name)))
        disk.replace(run / rundir.CONFIG, to_json(config).encode())
        differs = rundir.note_resume(run, where, config.model.backend)
        if differs and training.steps_done:
            console.line(f"resumed under other conditions ({'; '.join(differs)}): no longer the unbroken run's to the bit")
        return go_on(training, test, run, number_of_workers(workers, where), quiet, until)


def restore(training: Training, run: Path, console: Console) -> checkpoint.State | None:
    """Put the newest whole checkpoint into `training`; None where there is none yet.

    Raises:  ValueError for a checkpoint of another run, or when all checkpoints of a run are lost
    """
    path, passed_over = checkpoint.newest(run / rundir.CHECKPOINTS)
    for damaged, reason in passed_over.items():
        console.line(f"passed over {damaged.name}: {reason}")
    if path is None:
        epochs = len(rundir.read_lines(run / rundir.METRICS))
        if epochs > 1:  # the first epoch's line is written before its checkpoint
            raise ValueError(
                f"{run} has {epochs} epochs in {rundir.METRICS} but no whole checkpoint: put one back, or begin a new run"
            )
        console.line(f"{run} has no whole checkpoint: starting over")
        return None
    require_same_run(checkpoint.read_state(path), training, run)
    for damaged in passed_over:  # they would count as the newest
        disk.remove(damaged)
    state = checkpoint.load(path, training.evaluated, training.net, training.optimizer)
    training.steps_done, training.meter = state.step, Meter(**state.meter)  # type: ignore[arg-type]
    if state.scaler:
        training.scaler.load_state_dict(state.scaler)
    console.line(f"resumed {run} behind step {state.step} of {training.num_steps}")
    return state


def require_same_run(about: dict[str, Any], training: Training, run: Path) -> None:
    """Refuse a checkpoint that was saved under another config, or with other data."""
    if changed := changes(about.get("run"), identity(training.config, training.data.labels)):
        raise ValueError(
            f"{run} was changed since its checkpoint of step {about.get('step')}: {', '.join(changed)}; "
            "put it back, or begin a new run"
        )


def require_workers(workers: int | None) -> None:
    if workers is not None and workers < 0:
        raise ValueError(f"workers={workers} is out of range; use 0 or more processes")


def require_until(until: int | None, done: int, config: Config) -> None:
    if until is not None and not done < until <= config.optim.epochs:
        epochs = config.optim.epochs
        raise ValueError(f"until={until} is out of range; use {done + 1} to {epochs}: {done} of {epochs} epochs are done")


def go_on(training: Training, test: Dataset, run: Path, workers: int, quiet: bool, until: int | None) -> Result:
    """Train from where `training` stands to the end, or to the end of epoch `until`, saving on the way."""
    config, steps = training.config, training.order.steps_per_epoch
    console, signals = Console(quiet), faults.Signals()
    console.line(summary(training))
    if training.device.type == "cpu":
        keep_freed_memory()
    numbers = range(training.steps_done, until * steps if until else training.num_steps)
    batches = Waiting(load(TrainingBatches(config, training.data, training.order), numbers, training.device, workers))
    began, seen = time.perf_counter(), 0
    with (
        TensorBoard(run) as board,
        console.progress(training.num_steps, training.steps_done) as progress,
        signals.watched(),
    ):
        for samples, labels in batches:
            loss = guarded_step(training, samples, labels)
            if training.probed:
                rundir.append(run / rundir.PROBE, training.probed)
                board.add_probe(training.probed)
            seen += len(labels)
            seconds = time.perf_counter() - began
            progress(f"{seen / seconds:,.0f} samples/s  {batches.seconds / seconds:.0%} waiting for data  loss {loss:.3f}")
            if training.steps_done % steps == 0:
                final = score(
                    training.evaluated,
                    test,
                    training.device,
                    precision=config.optim.eval_precision,
                    batch=config.optim.batch,
                    workers=workers,
                )
                line = record(run, training.steps_done // steps, training.steps_done, training.meter, final)
                timing = {"epoch": line["epoch"], "seconds": seconds, "samples_per_second": seen / seconds}
                timing["data_wait_s"] = batches.seconds
                rundir.append(run / rundir.TIMING, timing)
                board.add(line)
                training.meter = Meter()
                save(training, run)
                console.epoch(line, config.optim.epochs, seen / seconds)
                began, seen, batches.seconds = time.perf_counter(), 0, 0.0
            elif config.retention.every_steps and training.steps_done % config.retention.every_steps == 0:
                save(training, run)
            if signals.received:
                save(training, run)
                raise faults.Interrupted(
                    signals.received, f"stopped behind step {training.steps_done}, saved; go on with --resume {run}"
                )
    return results(run, config)


def save(training: Training, run: Path) -> None:
    """Write a checkpoint, point `last` and `best` to what they should be, and remove what is not to be kept."""
    folder, keep, steps = run / rundir.CHECKPOINTS, training.config.retention, training.order.steps_per_epoch
    metrics = run / rundir.METRICS
    state = checkpoint.State(
        step=training.steps_done,
        meter=vars(training.meter),
        metrics_bytes=rundir.length(metrics),
        timing_bytes=rundir.length(run / rundir.TIMING),
        probe_bytes=rundir.length(run / rundir.PROBE),
        run=identity(training.config, training.data.labels),
        scaler=training.scaler.state_dict() if training.scaler.is_enabled() else None,
    )
    newest = checkpoint.save(folder, training.evaluated, training.net, training.optimizer, state)
    disk.link(folder / "last", newest.name)
    lines = rundir.read_lines(metrics)
    kept = set(checkpoint.steps(folder)[-keep.last :])
    if keep.best and lines:
        best = folder / f"step-{max(lines, key=lambda line: line['test_accuracy'])['step']:08d}"
        if best.is_dir():
            kept.add(best)
            disk.link(folder / "best", best.name)
    if keep.every_epochs:
        every = keep.every_epochs * steps
        kept |= {path for path in checkpoint.steps(folder) if int(path.name[5:]) % every == 0}
    checkpoint.prune(folder, kept)


def require_fit(training: Training) -> None:
    """Refuse samples that the network can't take, before anything is written."""
    samples = ready(TrainingBatches(training.config, training.data, training.order)[0][0], training.device)
    training.net.check_input(samples, dims=(4, 5))
    sizes = {len(training.order.batch_indices(step)) for step in (0, training.order.steps_per_epoch - 1)}
    if min(sizes) == 1:  # batch norm may need more than one value, deep down where an image has become a pixel
        few = samples[:1] if samples.dim() == 4 else samples[:, :1]
        try:
            training.net.train()(few)
        except ValueError:
            how = training.config.optim
            raise ValueError(
                f"the last batch of each epoch has one sample ({len(training.data.labels):,} in batches of {how.batch}), "
                f"too few for batch norm in {training.config.model.name}; use another --optim.batch"
            ) from None
        training.statistics.restore()


def require_disk(training: Training, run: Path) -> None:
    """Refuse a run whose checkpoints would not fit on the disk."""
    needed, free = disk_needed(training), shutil.disk_usage(existing(run)).free
    if needed > free:
        raise OSError(f"the checkpoints of this run need {needed / 1e6:,.0f} MB, {existing(run)} has {free / 1e6:,.0f} MB free")


def disk_needed(training: Training) -> int:
    """Bytes of all checkpoints that will be kept, and of the one being written."""
    weights = sum(t.numel() * t.element_size() for t in training.net.state_dict().values())
    buffers = {"sgd": 1 if training.config.optim.momentum else 0}.get(training.config.optim.optimizer, 2)
    each = weights * (1 + buffers + (1 if training.average else 0))
    keep = training.config.retention
    number = keep.last + keep.best + (training.config.optim.epochs // keep.every_epochs if keep.every_epochs else 0) + 1
    return each * number


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def summary(training: Training) -> str:
    """What is about to be trained, in a line."""
    config, how = training.config, training.config.optim
    return (
        f"{config.model.name} on {config.data.name}: {sum(p.numel() for p in training.net.parameters()):,} parameters, "
        f"{len(training.data.labels):,} training samples, batch {how.batch}, peak learning rate {how.peak_lr:g} "
        f"({how.lr:g} per {how.lr_batch}), {how.precision}, {training.device}, {disk_needed(training) / 1e6:,.1f} MB on disk"
    )
