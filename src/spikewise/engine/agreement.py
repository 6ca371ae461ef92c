"""What processes that train together must agree on before they begin: command, config, data and weights."""

import hashlib

import torch

from ..config import Config
from ..version import __version__
from .distributed import World, first_difference, require_same
from .run.fingerprint import flatten_config, run_fingerprint
from .run.folder import BITWISE_FIELDS, environment
from .step import TrainState

LOCAL_FIELDS = ("data.root", "data.cache", "weights", "imports", "recipe")  # names and places: what they hold is compared


def require_shards(processes: int, config: Config) -> None:
    """Refuse more processes than shards.

    Raises:  ValueError
    """
    if processes > config.optim.shards:
        raise ValueError(
            f"{processes} processes for optim.shards={config.optim.shards}, the parts of a batch: each computes one or more; "
            f"start at most {config.optim.shards}, or set --optim.shards to {processes} or more "
            f"(a divisor of optim.batch={config.optim.batch})"
        )


def require_same_setup(world: World, command: str, config: Config) -> None:
    """Refuse more processes than shards, and processes with other commands, versions or configs.

    Raises:  ValueError in every process
    """
    require_shards(world.size, config)
    facts = {"command": command, "spikewise": __version__, "torch": torch.__version__}
    fields = {name: value for name, value in flatten_config(config).items() if name not in LOCAL_FIELDS}
    require_same(world, facts | fields)


def require_same_state(state: TrainState) -> None:
    """Refuse processes with other training data or other weights.

    Raises:  ValueError in every process
    """
    if state.world.size == 1:
        return
    data = run_fingerprint(state.config, state.data.labels)
    total = hashlib.sha256()
    for net in (state.net, state.eval_net):
        for tensor in net.state_dict().values():
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    facts = {"samples": data["samples"], "labels": data["labels"], "weights": total.hexdigest()[:16]}
    require_same(state.world, facts | {"steps": state.steps_done})


def describe_mixed_machines(state: TrainState) -> str:
    """On what of their machines, which may differ, the last digits depend; "" where all processes have the same."""
    found = environment(state.device, state.config.model.backend)
    difference = first_difference(state.world, {name: found[name] for name in BITWISE_FIELDS})
    return difference and f"{difference}: right, but another number of processes, or a resume, gives other last digits"
