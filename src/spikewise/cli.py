"""The command line: a thin face. Every command is a function that could as well be called from Python."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from .config import Config

Topic = Literal["models", "recipes", "datasets", "neurons", "surrogates", "backends"]


@dataclass(frozen=True)
class TrainOptions:
    """Train a network by a recipe. Every field of the recipe can be changed on the command line."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path | None = None  # run folder, new or empty; default runs/RECIPE-SEED
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    quiet: bool = False  # only the result


def train(recipe: str, options: list[str]) -> None:
    """Train by a recipe, print firing rates by block, and as the last line the result."""
    from .recipes import RECIPES

    if recipe not in RECIPES:
        raise ValueError(f"no recipe named {recipe!r}; known: {', '.join(RECIPES)}")
    given = tyro.cli(
        TrainOptions, prog=f"spikewise train {recipe}", args=options, default=TrainOptions(config=RECIPES[recipe]())
    )
    from .engine.trainer import train as run_training

    result = run_training(given.config, given.out, device=given.device, quiet=given.quiet)
    if not given.config.model.name.startswith("resnet"):
        print_firing_rates(result.run, device=given.device)
    print(
        f"best epoch {result.best_epoch + 1}: {100 * result.best.accuracy:.1f} % (chosen on the test split), "
        f"final: {100 * result.final.accuracy:.1f} % ({result.final.correct} of {result.final.total})"
    )
    print(f"{recipe}: test accuracy {100 * result.final.accuracy:.1f} % (seed {given.config.seed}), run folder {result.run}")


def evaluate(
    run: Positional[Path],
    checkpoint: Literal["last", "best"] = "last",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> None:
    """Score a finished run on its test split.

    Args:
        run: the run folder
        checkpoint: the final weights, or those of the best epoch (chosen on the test split)
        device: where to compute
    """
    from .engine.evaluate import evaluate as score_run

    score = score_run(run, device=device, checkpoint=checkpoint)
    right = f"{score.correct} of {score.total}"
    print(f"{run} ({checkpoint}): test accuracy {100 * score.accuracy:.2f} % ({right}), loss {score.loss:.4f}")


def analyze(run: Positional[Path], batches: int = 8, device: Literal["auto", "cpu", "cuda", "mps"] = "auto") -> None:
    """Firing rate of every block of a finished run.

    Args:
        run: the run folder
        batches: how many batches of 64 test samples
        device: where to compute
    """
    print_firing_rates(run, batches=batches, device=device)


def print_firing_rates(run: Path, *, batches: int = 8, device: str = "auto") -> None:
    from .analysis.firing import firing_rates_of_run

    rates = firing_rates_of_run(run, batches=batches, device=device)
    print("firing rate by block, in spikes per neuron and time step")
    print(f"{'block':<18} {'branch A':>9} {'output O':>9} {'largest O':>10}")
    for name, rate in rates.items():
        print(f"{name:<18} {rate.branch:>9.4f} {rate.output:>9.4f} {rate.most:>10.0f}")


def list_(topic: Positional[Topic | None] = None) -> None:
    """What there is: models, recipes, datasets, neurons, surrogates, backends.

    Args:
        topic: one of these; all, if not given
    """
    from .data import DATASETS
    from .kernels import BACKENDS, SURROGATES
    from .models import MODELS
    from .neurons import NEURONS
    from .recipes import RECIPES

    tables: dict[str, dict] = {
        "models": MODELS,
        "recipes": RECIPES,
        "datasets": DATASETS,
        "neurons": NEURONS,
        "surrogates": SURROGATES,
        "backends": BACKENDS,
    }
    for name in [topic] if topic else tables:
        print(name if topic is None else "", end=":\n" if topic is None else "")
        for key, value in tables[name].items():
            print(f"  {key:<18} {first_line(value)}".rstrip() if topic is None else f"{key:<18} {first_line(value)}".rstrip())


def first_line(entry: object) -> str:
    """What a table's entry says of itself."""
    from .models.zoo import Architecture

    if isinstance(entry, Architecture):
        blocks = sum(entry.stages) if entry.kind != "event" else sum(count for _, count in entry.stages)
        return f"{entry.kind} kind, {blocks} {'bottleneck' if entry.bottleneck else 'basic'} {entry.block.__name__}s"
    return (entry.__doc__ or "").strip().partition("\n")[0]


COMMANDS: dict[str, Callable[..., None]] = {"evaluate": evaluate, "analyze": analyze, "list": list_}

HELP = """usage: spikewise COMMAND ...

commands:
  train RECIPE    train by a recipe; `spikewise train RECIPE --help` shows every option
  evaluate RUN    score a finished run on its test split
  analyze RUN     firing rate of every block of a finished run
  list [TOPIC]    models, recipes, datasets, neurons, surrogates, backends

`spikewise COMMAND --help` says more."""


def main(args: list[str] | None = None) -> int:
    """Run a command; the exit status. A user's mistake is one line on standard error and status 2."""
    args = list(sys.argv[1:] if args is None else args)
    try:
        return run_command(args)
    except BrokenPipeError:  # the reader of our output went away, as in `spikewise list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        if os.environ.get("SPIKEWISE_TRACEBACK"):
            raise
        print(f"spikewise: {error}", file=sys.stderr)
        return 2


def run_command(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0 if args else 2
    command, rest = args[0], args[1:]
    if command == "train":
        if not rest or rest[0].startswith("-"):
            from .recipes import RECIPES

            print(
                f"usage: spikewise train RECIPE [options]\nrecipes: {', '.join(RECIPES)}",
                file=sys.stdout if rest else sys.stderr,
            )
            return 0 if rest and rest[0] in ("-h", "--help") else 2
        train(rest[0], rest[1:])
    elif command == "--version":
        from . import __version__

        print(f"spikewise {__version__}")
    elif command in COMMANDS:
        tyro.cli(COMMANDS[command], prog=f"spikewise {command}", args=rest)
    else:
        raise ValueError(f"no command named {command!r}; known: train, {', '.join(COMMANDS)}")
    return 0


def run() -> None:
    """The console script."""
    sys.exit(main())
