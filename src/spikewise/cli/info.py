"""The commands `spikewise doctor` and `spikewise list`: what this machine and this package have."""

import json
from typing import Literal

from tyro.conf import Positional

from ..config import Config
from .options import Json

Topic = Literal["all", "models", "recipes", "datasets", "neurons", "surrogates", "backends"]


def doctor(as_json: Json = False) -> None:
    """What this machine can do, and which kernels run."""
    from ..engine.doctor import system_report

    facts = system_report()
    print(json.dumps(facts) if as_json else "\n".join(f"{name:<22} {value}" for name, value in facts.items()))


def list_tables(topic: Positional[Topic] = "all", as_json: Json = False) -> None:
    """Models, recipes, datasets, neurons, surrogates, backends.

    Args:
        topic: which table
    """
    from ..data import DATASETS
    from ..kernels import BACKENDS, SURROGATES
    from ..models import MODELS
    from ..neurons import NEURONS
    from ..recipes import RECIPES

    tables: dict[str, dict] = {
        "models": MODELS,
        "recipes": {name: recipe() for name, recipe in RECIPES.items()},
        "datasets": DATASETS,
        "neurons": NEURONS,
        "surrogates": SURROGATES,
        "backends": BACKENDS,
    }
    chosen = tables if topic == "all" else {topic: tables[topic]}
    lines = {name: {key: describe_entry(entry) for key, entry in table.items()} for name, table in chosen.items()}
    if as_json:
        print(json.dumps(lines))
        return
    for name, table in lines.items():
        if topic == "all":
            print(f"{name}:")
        for key, line in table.items():
            print(f"  {key:<30} {line}")


def describe_entry(entry: object) -> str:
    """What a table's entry is, in a line."""
    from ..data import DatasetEntry
    from ..models.registry import ModelEntry

    if isinstance(entry, DatasetEntry):
        return entry.description
    if isinstance(entry, Config):
        return f"{entry.model.name} {entry.model.connect} on {entry.data.name}, {entry.optim.epochs} epochs"
    if isinstance(entry, ModelEntry):
        blocks = sum(entry.stages) if entry.family != "event" else sum(count for _, count in entry.stages)
        return f"{entry.family} kind, {blocks} {'bottleneck' if entry.bottleneck else 'basic'} {entry.block.__name__}s"
    return (entry.__doc__ or "").strip().partition("\n")[0]
