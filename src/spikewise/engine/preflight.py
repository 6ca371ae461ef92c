"""Checks before a run writes anything: do the samples fit the network, and the checkpoints the disk?"""

import shutil
from pathlib import Path

from ..config import Config
from ..wording import count, option
from .loader import ShardBatches, TrainingBatches, place
from .step import TrainState


def require_stop_epoch(stop_epoch: int | None, epochs_done: int, config: Config) -> None:
    """Refuse an epoch to stop after that is over already, or beyond the run's last."""
    epochs = config.optim.epochs
    if stop_epoch is not None and not epochs_done < stop_epoch <= epochs:
        raise ValueError(
            f"{option('stop_epoch', stop_epoch)} is out of range; use {epochs_done + 1} to {epochs}: "
            f"{epochs_done} of {count(epochs, 'epoch')} are done"
        )


def check_first_batch(state: TrainState) -> None:
    """Refuse samples that the network can't take."""
    batches = TrainingBatches(state.config, state.data, state.order)
    ((samples, _), *_) = place(ShardBatches(batches, state.world.rank, state.world.size)[0][:1], state.device, batches.table)
    state.net.check_input(samples, dims=(4, 5))
    if len(state.order.batch_indices(state.order.steps_per_epoch - 1)) == 1:
        # batch norm may need more than one value, deep down where an image has become a pixel
        one = samples[:1] if samples.dim() == 4 else samples[:, :1]
        try:
            state.net.train()(one)
        except ValueError:
            raise ValueError(
                f"the last batch of each epoch has one sample ({state.order.epoch_length:,} in batches of "
                f"{state.config.optim.batch}), too few for batch norm in {state.config.model.name}; use another --optim.batch"
            ) from None
        state.buffers.restore()


def require_disk(state: TrainState, run: Path) -> None:
    """Refuse a run whose checkpoints don't fit on the disk."""
    run = run.absolute()
    folder = next(path for path in (run, *run.parents) if path.exists())
    needed, free = checkpoint_bytes(state), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"the checkpoints of this run need {needed / 1e6:,.0f} MB, {folder} has {free / 1e6:,.0f} MB free")


def checkpoint_bytes(state: TrainState) -> int:
    """Bytes of all checkpoints that will be kept, and of the one being written."""
    optim, keep = state.config.optim, state.config.retention
    weights = sum(t.numel() * t.element_size() for t in state.net.state_dict().values())
    optimizer_copies = int(optim.momentum > 0) if optim.optimizer == "sgd" else 2
    num_copies = 1 + optimizer_copies + (state.ema_net is not None)
    num_checkpoints = keep.last + keep.best + (optim.epochs // keep.every_epochs if keep.every_epochs else 0) + 1
    return weights * num_copies * num_checkpoints
