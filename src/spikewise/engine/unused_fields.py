"""Fields of a config that change nothing: refused in a new run; an old one keeps what it was begun with.

Options that a network or an augmentation does not have are refused where the network and the data are made.
"""

import dataclasses

from ..config import Config
from ..data import find_dataset
from .build import FRAME_OPTIONS
from .run.fingerprint import flatten_config


def unused_fields(config: Config) -> dict[str, str]:
    """The fields that this config's data set, network and optimiser do not use, and what each is for."""
    data, optim, events = config.data, config.optim, find_dataset(config.data.name).events
    uses = [
        *((f"data.{name}", "event recordings", events) for name in ("num_frames", "split_by", *FRAME_OPTIONS)),
        *([("data.tau", "data.representation=time_surface", data.representation == "time_surface")] if events else []),
        ("data.crop", "data.size: a part of the sensor of its proportions", data.crop != "centre" or data.size is not None),
        ("data.temporal_delete_per", "data.temporal_delete", data.temporal_delete > 0),
        ("data.folds", "cross-validation, data.fold", data.fold is not None),
        ("model.T", "still images: recordings bring data.num_frames frames", not events),
        ("optim.norm_over", "optim.shards above 1", optim.shards > 1),
        ("optim.gradient_sum", "batches of several shards, optim.shards", optim.shards > 1),
        ("optim.momentum", "optim.optimizer=sgd", optim.optimizer == "sgd"),
        ("optim.nesterov", "optim.optimizer=sgd", optim.optimizer == "sgd"),
        ("optim.step_epochs", "optim.schedule=step", optim.schedule == "step"),
        ("optim.step_gamma", "optim.schedule=step", optim.schedule == "step"),
    ]
    return {name: what for name, what, applies in uses if not applies}


def require_used(config: Config, start: Config, sections: tuple[str, ...] = ("data", "model", "optim")) -> None:
    """Refuse a field of these sections that was changed from `start` and changes nothing.

    Raises:  ValueError that names it
    """
    now, before, default = map(flatten_config, (config, start, Config()))
    for name, what in unused_fields(config).items():
        if name.partition(".")[0] in sections and now[name] not in (before[name], default[name]):
            ran = f"{config.model.name} on {config.data.name}"
            raise ValueError(f"{name}={now[name]!r} changes nothing in {ran}: it is for {what}; leave it at {default[name]!r}")


def without_unused(config: Config, start: Config) -> Config:
    """The config, with the defaults for what its recipe, `start`, says of another data set.

    Raises:  ValueError as `require_used`
    """
    require_used(config, start)
    names = [name.partition(".")[2] for name in unused_fields(config) if name.startswith("data.")]
    defaults = {name: getattr(Config().data, name) for name in names}
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **defaults))
