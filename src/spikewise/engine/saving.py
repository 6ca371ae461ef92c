"""What of a training goes into checkpoints, and back: of several processes rank 0 writes, and all read."""

from functools import partial
from pathlib import Path

from .. import disk
from ..data.input_spec import class_changes
from ..models.shipped import WEIGHTS_FILE
from ..models.weights import read_class_names
from ..wording import count
from .build import where_data_is
from .console import Console
from .metrics import best_epoch_metrics
from .run import checkpoint
from .run.background import Background
from .run.fingerprint import describe_changes, run_fingerprint
from .run.folder import CHECKPOINTS, METRICS, PROBE, TIMING, file_size, read_lines
from .step import EpochMeter, TrainState


def save_checkpoint(state: TrainState, run: Path, console: Console | None = None, writer: Background | None = None) -> None:
    """Write a checkpoint, update the links `last` and `best`, and remove the checkpoints that are not kept: rank 0 does.

    writer:  writes while training goes on; None: all is on the disk on return
    """
    state.look()
    if not state.world.is_first:
        return
    if writer is not None:
        writer.wait()  # one copy in memory at a time
    saved = checkpoint.CheckpointState(
        step=state.steps_done,
        meter=vars(state.meter),
        metrics_bytes=file_size(run / METRICS),
        timing_bytes=file_size(run / TIMING),
        probe_bytes=file_size(run / PROBE),
        run=run_fingerprint(state.config, state.data.labels),
        scaler=state.scaler.state_dict() if state.scaler.is_enabled() else None,
    )
    snapshot = checkpoint.snapshot(state.eval_net, state.net, state.optimizer, saved)
    lines = read_lines(run / METRICS)  # now: the thread must not see later ones
    best_step = best_epoch_metrics(lines)["step"] if state.config.retention.best and lines else None
    write = partial(write_checkpoint, state, run / CHECKPOINTS, snapshot, best_step, console)
    if writer is None:
        write()
    else:
        writer.start(write)


def write_checkpoint(
    state: TrainState, folder: Path, snapshot: checkpoint.Snapshot, best_step: int | None, console: Console | None
) -> None:
    """The part of `save_checkpoint` that goes to the disk: of `state` it reads what no step changes."""
    keep = state.config.retention
    newest = checkpoint.write(folder, snapshot)
    links = disk.point(folder / "last", newest.name)
    paths = checkpoint.list_checkpoints(folder)
    kept = set(paths[-keep.last :])
    if best_step is not None and (best := checkpoint.path_of_step(folder, best_step)).is_dir():
        kept.add(best)
        disk.point(folder / "best", best.name)
    if keep.every_epochs:
        every = keep.every_epochs * state.order.steps_per_epoch
        kept |= {path for path in paths if checkpoint.step_number(path) % every == 0}
    checkpoint.prune(folder, kept)
    if not links and not state.told_of_links and console is not None:
        state.told_of_links = True
        console.line(f"{folder}: no symbolic links here; last and best are files that hold the name of a checkpoint")


def restore_checkpoint(state: TrainState, run: Path, console: Console) -> checkpoint.CheckpointState | None:
    """Load the newest intact checkpoint, of which rank 0 tells the others, into `state`; None if there is none yet.

    Raises:  ValueError as `choose_checkpoint`; FileNotFoundError where a machine does not see the run folder of rank 0
    """
    name = state.world.tell(lambda: choose_checkpoint(state, run, console))
    if not name:
        return None
    path = run / CHECKPOINTS / name
    if not path.is_dir():
        raise FileNotFoundError(f"no {path} on this machine; all machines of a run need its folder on a file system they share")
    saved = checkpoint.load(path, state.eval_net, state.net, state.optimizer)
    state.steps_done, state.meter = saved.step, EpochMeter(**saved.meter)  # type: ignore[arg-type]
    if saved.scaler:
        state.scaler.load_state_dict(saved.scaler)
    console.line(f"resumed {run} after step {state.steps_done} of {state.num_steps}")
    return saved


def choose_checkpoint(state: TrainState, run: Path, console: Console) -> str:
    """The name of the newest intact checkpoint, "" if there is none yet; corrupt newer ones are removed.

    Raises:  ValueError for a checkpoint of another run, or when all checkpoints of a run are lost
    """
    path, skipped = checkpoint.latest_valid(run / CHECKPOINTS)
    for corrupt, reason in skipped.items():
        console.line(f"skipped {corrupt.name}: {reason}")
    if path is None:
        epochs = len(read_lines(run / METRICS))
        if epochs > 1:  # the first epoch's line is written before its checkpoint
            raise ValueError(
                f"{run} has {count(epochs, 'epoch')} in {METRICS} but no intact checkpoint: restore one, or begin a new run"
            )
        if state.config.weights:
            raise ValueError(
                f"{run} has no intact checkpoint, not even that of its first weights: begin a new run with --weights"
            )
        console.line(f"{run} has no intact checkpoint: starting over")
        return ""
    fingerprint = checkpoint.read_state(path).get("run")
    changes = describe_changes(fingerprint, run_fingerprint(state.config, state.data.labels))
    classes, classes_now = read_class_names(path / WEIGHTS_FILE), tuple(state.data.class_names)
    if classes and classes != classes_now:  # a renamed class may keep its place, and all labels
        changes.append(f"classes: {class_changes(classes, classes_now) or 'in another order'}")
    if changes:
        data_alone = all(change.startswith(("samples ", "labels ", "classes: ")) for change in changes)
        what = f"the data of {run}, {where_data_is(state.config.data)}," if data_alone else run
        raise ValueError(
            f"{what} was changed since its checkpoint of step {checkpoint.step_number(path)}: {', '.join(changes)}; "
            "undo that, or begin a new run"
        )
    for corrupt in skipped:  # they would count as the newest
        disk.remove_tree(corrupt)
    return path.name
