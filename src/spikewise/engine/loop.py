"""Training: from a config to a run folder, and on from an interrupted run."""

import dataclasses
import errno
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch

from .. import disk
from ..config import Config, Model, to_json
from ..data import Dataset
from ..data.subset import Subset
from ..data.validation import divided_recordings
from ..progress import MinuteLines
from ..wording import count
from .agreement import describe_mixed_machines, require_same_setup, require_same_state, require_shards
from .build import choose_device, choose_precision, load_run_data
from .console import Console
from .deferred import begin_training
from .distributed import World, joined, world_size
from .errors import Interrupted
from .evaluate import Score, evaluate_network
from .finetune import adopt_network, describe_frozen, describe_weights
from .loader import ShardBatches, TimedIterator, TrainingBatches, fit_workers, iterate_batches, resolve_num_workers
from .memory.allocator import disable_heap_trim
from .memory.out_of_memory import step_or_oom_hint
from .metrics import Result, append_epoch_metrics, read_result
from .preflight import check_first_batch, checkpoint_bytes, require_disk, require_stop_epoch
from .restart import Stop, forget_stop, is_begun, leave_stop, obey_stop
from .run import checkpoint
from .run.background import Background
from .run.folder import (
    CONFIG,
    METRICS,
    PROBE,
    TIMING,
    append,
    clear,
    create,
    file_size,
    locked,
    read_config,
    record_resume,
    require_empty,
)
from .saving import restore_checkpoint, save_checkpoint
from .step import EpochMeter, TrainState
from .tensorboard import TensorBoard
from .unused_fields import require_used


def train(
    config: Config,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    quiet: bool = False,
    stop_epoch: int | None = None,
) -> Result:
    """Train the network of a config and write a run folder.

    config:      with `weights`, a model at its defaults stands for the network of these weights
    out:         the run folder, new or empty; None: runs/RECIPE-SEED
    device:      auto, cpu, cuda or mps
    workers:     data loading processes; 0: this process; None: chosen by device. The result does not depend on it
    quiet:       print nothing
    stop_epoch:  stop after this epoch, on the learning rate schedule of the whole run; `resume` continues
    Raises:      FileExistsError for a folder in use; ValueError for a config that does not fit; NonFiniteError when a loss or
                 gradient is not finite, before that step changes a weight; BatchTooLargeError; Interrupted after SIGINT,
                 SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2; RankLostError where another process of this training is gone

    Where a launcher such as torchrun has started several processes, they share the shards of each step, and each of them
    returns the same.
    """
    if not isinstance(config, Config):
        raise ValueError(f"train takes a Config, such as sw.RECIPES['digits'](), given {config!r}")
    run = Path(out or f"runs/{config.recipe.replace('/', '-')}-{config.seed}")
    require_used(config, Config(), ("data",))
    require_stop_epoch(stop_epoch, 0, config)
    torch_device = choose_device(device)
    num_workers = resolve_num_workers(workers, torch_device)
    config = choose_precision(config, torch_device)
    if config.weights and config.model == Model():
        config = adopt_network(config)
    require_shards(world_size(), config)  # each rank by itself: one that ends while others connect would be all they tell
    with joined(torch_device) as world:
        require_same_setup(world, "train", config)
        if world.tell(lambda: str(is_begun(run, config, world.launch))) == "True":
            return go_on(world, run, config, torch_device, num_workers, quiet, stop_epoch)
        data, held_out = load_run_data(config, "train", world), load_held_out(config, world)
        state = begin_training(config, data, torch_device, fresh=True, world=world)
        require_same_state(state)
        check_first_batch(state)
        if world.is_first:
            require_disk(state, run)
        console = Console(quiet or not world.is_first)
        is_new = not run.exists()
        with locked(run, console.line) if world.is_first else nullcontext():
            if world.is_first:
                require_empty(run)  # another process may have come and gone meanwhile
            with taken_back_unless_begun(state, run, is_new=is_new):
                if world.is_first:
                    create(run, config, torch_device, describe_weights(config), world)
                if config.weights:
                    save_checkpoint(state, run, console)  # from here on the run does not need their file
                return run_epochs(state, held_out, run, num_workers, quiet, stop_epoch)


def load_held_out(config: Config, world: World) -> dict[str, Dataset]:
    """What is not trained on: the test split, and before it the samples held out for validation, where there are any."""
    splits = ("validation", "test") if config.data.validation else ("test",)
    return {split: load_run_data(config, split, world) for split in splits}


def resume(
    run: str | Path,
    *,
    epochs: int | None = None,
    data_root: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    quiet: bool = False,
    stop_epoch: int | None = None,
    imports: tuple[str, ...] = (),
) -> Result:
    """Continue an interrupted run, bit-identical on the machine where it began; of a finished run, only return the result.

    epochs:      train for more epochs than the run was begun with (which changes its learning rates)
    data_root:   where the data is now
    stop_epoch:  stop after this epoch
    imports:     where the modules are now that the run imports; kept in its config. They are imported by the caller
    Raises:      what `train` raises; FileNotFoundError for a folder that is not a run
    """
    run = Path(run)
    config = read_config(run, data_root)
    config = dataclasses.replace(config, imports=imports or config.imports)
    torch_device = choose_device(device)
    num_workers = resolve_num_workers(workers, torch_device)
    require_shards(world_size(), config)  # each rank by itself: one that ends while others connect would be all they tell
    with joined(torch_device) as world:
        if epochs is not None and epochs != config.optim.epochs:
            before = config.optim.epochs
            if epochs < before:
                raise ValueError(f"--epochs {epochs} is fewer than the {before} of the run; give more, or none")
            note = f"{before} -> {count(epochs, 'epoch')}: from here on with the learning rates of all {epochs}"
            Console(quiet or not world.is_first).line(note)
            config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, epochs=epochs))
        require_same_setup(world, "resume", config)
        return go_on(world, run, config, torch_device, num_workers, quiet, stop_epoch)


def go_on(
    world: World, run: Path, config: Config, device: torch.device, num_workers: int, quiet: bool, stop_epoch: int | None
) -> Result:
    """Continue a run with this config, to its end or that of `stop_epoch`.

    Raises:  Interrupted, where a stop was asked for and a launcher has started its processes again
    """
    console = Console(quiet or not world.is_first)
    obey_stop(world, run)
    data, held_out = load_run_data(config, "train", world), load_held_out(config, world)
    state = begin_training(config, data, device, world=world)
    with locked(run, console.line) if world.is_first else nullcontext():
        saved = restore_checkpoint(state, run, console)
        require_same_state(state)
        if state.steps_done >= state.num_steps:
            save_checkpoint(state, run, console)  # the run may have ended before its links were right
            console.line(f"{run} is finished: {count(config.optim.epochs, 'epoch')}")
            return told_result(world, run, config)
        require_stop_epoch(stop_epoch, state.steps_done // state.order.steps_per_epoch, config)
        if world.is_first:
            reopen(state, run, saved, console)
        with told_where_to_go_on(run):
            return run_epochs(state, held_out, run, num_workers, quiet, stop_epoch)


def reopen(state: TrainState, run: Path, saved: checkpoint.CheckpointState | None, console: Console) -> None:
    """Make the files of a run those of its checkpoint again, note on what it goes on, and say what that changes."""
    config, world = state.config, state.world
    sizes = {TIMING: saved.timing_bytes, PROBE: saved.probe_bytes} if saved else {}
    disk.truncate(run / METRICS, saved.metrics_bytes if saved else 0)
    for name in (TIMING, PROBE):
        disk.truncate(run / name, min(sizes.get(name, 0), file_size(run / name)))
    forget_stop(run)
    disk.atomic_write(run / CONFIG, to_json(config).encode())
    differences, processes = record_resume(run, state.device, config, world)
    if not state.steps_done:
        return
    if differences:
        changes = "; ".join(differences)
        console.line(f"resumed on a different setup ({changes}): no longer bit-identical to an uninterrupted run")
    elif state.device.type == "cuda" and not config.optim.deterministic:
        console.line("on a GPU without --optim.deterministic the last digits may differ from those of an uninterrupted run")
    elif processes != world.size:
        console.line(f"processes {processes} -> {world.size}: the same run, bit for bit")


@contextmanager
def taken_back_unless_begun(state: TrainState, run: Path, *, is_new: bool) -> Iterator[None]:
    """A new run that fails before the end of its first step leaves nothing behind; a later one is told the way on.

    is_new:  whether the folder itself was made for it
    """
    try:
        with told_where_to_go_on(run, state):
            yield
    except Exception:
        if state.world.is_first and not state.steps_done:
            clear(run)
            if is_new:
                run.rmdir()
        raise


@contextmanager
def told_where_to_go_on(run: Path, begun: TrainState | None = None) -> Iterator[None]:
    """A full disk, told with the way on.

    begun:  a new run, which goes on once it has done a step; None: it was begun before
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or (begun and not begun.steps_done):
            raise
        message = f"{error.strerror}: make room, then go on with spikewise train --resume {run}"
        raise OSError(error.errno, message) from None


def run_epochs(
    state: TrainState, held_out: dict[str, Dataset], run: Path, num_workers: int, quiet: bool, stop_epoch: int | None
) -> Result:
    """Train from where `state` is to the end, or to the end of `stop_epoch`, saving on the way.

    held_out:  what is evaluated after each epoch, by split
    """
    config, device, steps_per_epoch = state.config, state.device, state.order.steps_per_epoch
    world = state.world
    console = Console(quiet or not world.is_first)
    for line in opening_lines(state, held_out):
        console.line(line)
    if device.type == "cpu":
        disable_heap_trim()
    steps = range(state.steps_done, stop_epoch * steps_per_epoch if stop_epoch else state.num_steps)
    num_workers = fit_workers(num_workers, state.data, config.optim.batch, console.line)
    batches_of_run = ShardBatches(TrainingBatches(config, state.data, state.order), world.rank, world.size)
    loaded = iterate_batches(batches_of_run, steps, device, num_workers)
    batches = TimedIterator(loaded)
    lines, epochs = MinuteLines(console.minutely, steps.stop, steps.start), config.optim.epochs
    start, num_seen = time.perf_counter(), 0
    progress = console.progress(state.num_steps, state.steps_done)
    curves = TensorBoard(run) if world.is_first else nullcontext()
    with closing(loaded), curves as board, progress as advance, state.signals.installed(), Background() as writer:
        for shards in batches:
            loss = step_or_oom_hint(state, shards)
            writer.check()
            while state.notes:
                console.line(state.notes.pop(0))
            if state.probe_record and board is not None:
                append(run / PROBE, state.probe_record)
                board.add_probe(state.probe_record)
            num_seen += len(state.order.batch_indices(state.steps_done - 1))
            seconds = time.perf_counter() - start
            speed = num_seen / seconds
            where = f"{speed:,.0f} samples/s  {batches.seconds / seconds:.0%} waiting for data  loss {loss:.3f}"
            advance(where)
            done, epoch = state.steps_done, (state.steps_done - 1) // steps_per_epoch + 1
            lines.at(done, partial("epoch {:3}/{}  step {}/{}  {}".format, epoch, epochs, done, state.num_steps, where))
            if state.steps_done % steps_per_epoch == 0:
                writer.wait()  # metrics.jsonl is one line ahead at most; and evaluation may fork, best without threads
                scores = {split: score_epoch(state, data, num_workers, quiet) for split, data in held_out.items()}
                if board is not None:
                    metrics = append_epoch_metrics(run, epoch, state.steps_done, state.meter, **scores)
                    timing = {"epoch": epoch, "seconds": seconds, "samples_per_second": speed, "data_wait_s": batches.seconds}
                    append(run / TIMING, timing)
                    board.add_epoch(metrics)
                state.meter = EpochMeter()
                save_checkpoint(state, run, console, writer)
                if board is not None:
                    console.epoch(metrics, config.optim.epochs, speed)
                start, num_seen, batches.seconds = time.perf_counter(), 0, 0.0
            elif config.retention.every_steps and state.steps_done % config.retention.every_steps == 0:
                save_checkpoint(state, run, console, writer)
            if stop := state.signals.agreed if world.size > 1 else state.signals.received:
                raise Interrupted(stop, world.tell(lambda: save_and_stop(state, run, stop, console, writer)))
    return told_result(world, run, config)


def describe_validation(held_out: Dataset) -> str:
    """How many samples are held out; and that they are no test of new recordings, where these are the trained ones, too."""
    text = f"{count(len(held_out.labels), 'sample')} held out for validation choose the best epoch"
    divided, recordings = divided_recordings(held_out) if isinstance(held_out, Subset) else (0, 0)
    if not divided:
        return text
    seen = f"{divided:,} of {count(recordings, 'recording')} {'has' if divided == 1 else 'have'} windows on both sides"
    return f"{text}; {seen}, so that validation accuracy may be above that on new recordings"


def opening_lines(state: TrainState, held_out: dict[str, Dataset]) -> Iterator[str]:
    """What is to be known of a run before its first step."""
    optim = state.config.optim
    yield run_header(state)
    if optim.warmup != optim.warmup_epochs:
        yield f"warm-up is shortened from {optim.warmup_epochs:g} to {optim.warmup:g}, half of {count(optim.epochs, 'epoch')}"
    if "validation" in held_out:
        yield describe_validation(held_out["validation"])
    if state.config.weights and not state.steps_done:
        yield f"begins with {state.begins_with}"
    if state.frozen:
        yield describe_frozen(state.net, state.config.freeze, state.new_head)
    if mixed := describe_mixed_machines(state):
        yield mixed


def score_epoch(state: TrainState, data: Dataset, num_workers: int, quiet: bool) -> Score:
    """The network of an epoch on data that it did not learn from, shared by the processes."""
    optim = state.config.optim
    return evaluate_network(
        state.eval_net,
        data,
        state.device,
        precision=optim.eval_precision,
        loss=optim.loss,
        batch=optim.shard_batch,
        workers=num_workers,
        quiet=quiet,
        world=state.world,
    )


def save_and_stop(state: TrainState, run: Path, stop: int, console: Console, writer: Background) -> str:
    """Save what a signal asked to stop, leave word for processes that a launcher starts again, and say how to go on."""
    save_checkpoint(state, run, console, writer)
    writer.wait()
    message = f"stopped after step {state.steps_done}, saved; continue with --resume {run}"
    leave_stop(run, Stop(stop, message, state.world.launch))
    return message


def told_result(world: World, run: Path, config: Config) -> Result:
    """What the run has reached, as rank 0 reads it; until it has written the files, the others wait."""
    fields = json.loads(world.tell(lambda: json.dumps({**vars(read_result(run, config)), "run": ""})))
    return Result(**{**fields, "run": run})


def run_header(state: TrainState) -> str:
    """What is about to be trained, in one line."""
    config, optim = state.config, state.config.optim
    return (
        f"{config.model.name} on {config.data.name}: {sum(p.numel() for p in state.net.parameters()):,} parameters, "
        f"{count(len(state.data.labels), 'training sample')}, batch {optim.batch}, peak learning rate {optim.peak_lr:g} "
        f"({optim.lr:g} per {optim.lr_batch}), {optim.precision}, {state.device}, "
        f"{checkpoint_bytes(state) / 1e6:,.1f} MB on disk"
    )
