"""The command line: a thin face. Every command is a function that could as well be called from Python."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from ..config import Config
from .analysis import analyze, diagnose, energy
from .data import DATA, EVENTS
from .paper import reproduce
from .plan import of_recipe, plan

if TYPE_CHECKING:
    from ..engine.metrics import Result

Device = Literal["auto", "cpu", "cuda", "mps"]
Topic = Literal["all", "models", "recipes", "datasets", "neurons", "surrogates", "backends"]


@dataclass(frozen=True)
class TrainOptions:
    """Train a network by a recipe. Every field of the recipe can be changed on the command line."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path | None = None  # run folder, new or empty; default runs/RECIPE-SEED
    device: Device = "auto"
    workers: int | None = None  # processes that make batches; 0: this one; None: as suits the device; changes no result
    until: int | None = None  # stop after this epoch, with the learning rates of the whole run; --resume goes on
    quiet: bool = False  # only the result
    json: bool = False  # only the result, as JSON


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run where it ended. Nothing of its config can be changed but where and how it runs."""

    resume: Path  # the run folder
    epochs: int | None = None  # more epochs than it was begun with
    data_root: str | None = None  # where the data lies now
    device: Device = "auto"
    workers: int | None = None  # processes that make batches; 0: this one; None: as suits the device
    until: int | None = None  # stop after this epoch
    quiet: bool = False  # only the result
    json: bool = False  # only the result, as JSON


def train(args: list[str]) -> None:
    """Train by a recipe or go on with a run; print firing rates by block, and as the last line the result."""
    if any(arg.partition("=")[0] == "--resume" for arg in args):
        if not args[0].startswith("-"):
            raise ValueError(f"--resume goes on with a run as its config says; leave out {args[0]!r}")
        how = tyro.cli(ResumeOptions, prog="spikewise train", args=args)
        from ..engine.loop import resume

        result = resume(
            how.resume,
            epochs=how.epochs,
            data_root=how.data_root,
            device=how.device,
            workers=how.workers,
            stop_epoch=how.until,
            quiet=how.quiet or how.json,
        )
        show_result(result, how.device, quiet=how.quiet, as_json=how.json, data_root=how.data_root)
        return
    given = of_recipe("train", TrainOptions, args, ", or --resume DIR")
    from ..engine.loop import train as run_training

    result = run_training(
        given.config,
        given.out,
        device=given.device,
        workers=given.workers,
        stop_epoch=given.until,
        quiet=given.quiet or given.json,
    )
    show_result(result, given.device, quiet=given.quiet, as_json=given.json)


def show_result(result: "Result", device: str, *, quiet: bool, as_json: bool = False, data_root: str | None = None) -> None:
    from ..engine.run.folder import METRICS, read_config, read_lines
    from ..models.registry import MODELS

    config = read_config(result.run)
    if as_json:
        print(json.dumps({"recipe": config.recipe, "seed": config.seed, **vars(result), "run": str(result.run)}))
        return
    if MODELS[config.model.name].spiking and not quiet:
        analyze(result.run, device=device, data_root=data_root)  # type: ignore[arg-type]
    print(
        f"test accuracy: final {100 * result.final:.1f} % ({result.correct} of {result.total}), "
        f"mean of the last {result.num_averaged} epochs {100 * result.mean_last_epochs:.1f} %, "
        f"best {100 * result.best:.1f} % (epoch {result.best_epoch}, chosen on the test split)"
    )
    print(f"{config.recipe}: test accuracy {100 * result.final:.1f} % (seed {config.seed}), run folder {result.run}")
    if (done := len(read_lines(result.run / METRICS))) < config.optim.epochs:
        print(f"unfinished, {done} of {config.optim.epochs} epochs: go on with spikewise train --resume {result.run}")


def evaluate(
    run: Positional[Path],
    checkpoint: Literal["last", "best"] = "last",
    device: Device = "auto",
    data_root: str | None = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Score a run on its test split.

    Args:
        run: the run folder
        checkpoint: the last weights, or those of the best epoch (chosen on the test split)
        device: where to compute
        data_root: where the data lies now, if not where the run found it
        as_json: print JSON instead of a sentence
    """
    from ..engine.evaluate import evaluate as score_run
    from ..engine.run.folder import METRICS, read_config, read_lines

    score = score_run(run, device=device, checkpoint=checkpoint, data_root=data_root)
    done, epochs = len(read_lines(run / METRICS)), read_config(run).optim.epochs
    if as_json:
        print(
            json.dumps({"run": str(run), "checkpoint": checkpoint, "accuracy": score.accuracy, **vars(score), "epochs": done})
        )
        return
    unfinished = f", unfinished: {done} of {epochs} epochs" if done < epochs else ""
    right = f"{score.correct} of {score.total}"
    print(f"{run} ({checkpoint}{unfinished}): test accuracy {100 * score.accuracy:.2f} % ({right}), loss {score.loss:.4f}")


def list_(topic: Positional[Topic] = "all", as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """What there is.

    Args:
        topic: which table
        as_json: print JSON instead of a table
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
    lines = {name: {key: first_line(entry) for key, entry in table.items()} for name, table in chosen.items()}
    if as_json:
        print(json.dumps(lines))
        return
    for name, table in lines.items():
        if topic == "all":
            print(f"{name}:")
        for key, line in table.items():
            print(f"  {key:<30} {line}")


def first_line(entry: object) -> str:
    """What a table's entry says of itself."""
    from ..data import Source
    from ..models.registry import Architecture

    if isinstance(entry, Source):
        return entry.about
    if isinstance(entry, Config):
        return f"{entry.model.name} {entry.model.connect} on {entry.data.name}, {entry.optim.epochs} epochs"

    if isinstance(entry, Architecture):
        blocks = sum(entry.stages) if entry.kind != "event" else sum(count for _, count in entry.stages)
        return f"{entry.kind} kind, {blocks} {'bottleneck' if entry.bottleneck else 'basic'} {entry.block.__name__}s"
    return (entry.__doc__ or "").strip().partition("\n")[0]


def doctor(as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """What this machine can do, and which kernels run.

    Args:
        as_json: print JSON instead of a table
    """
    from ..engine.doctor import system_report

    found = system_report()
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<22} {value}")


GROUPS: dict[str, dict[str, Callable[..., None]]] = {"data": DATA, "events": EVENTS}
COMMANDS: dict[str, Callable[..., None]] = {
    "evaluate": evaluate,
    "analyze": analyze,
    "doctor": doctor,
    "list": list_,
    "diagnose": diagnose,
    "energy": energy,
    "reproduce": reproduce,
}

HELP = """usage: spikewise COMMAND ...

commands:
  train RECIPE    train by a recipe; `spikewise train RECIPE --help` shows every option
  train --resume RUN    go on with a run where it ended
  plan RECIPE     memory and time of a run before it begins, and what would make it fit; options as of train
  evaluate RUN    score a finished run on its test split
  analyze RUN     firing rate of every block of a finished run
  diagnose RUN|FILE    which block is sick, how that shows, what to change
  energy RUN|FILE    operations, bytes and joules of an inference, beside the ReLU twin's
  reproduce NAME  a figure, table or equation of the paper; `spikewise reproduce` lists them
  data download NAME    fetch a data set
  data prepare NAME --source FILES    turn what a source delivers into what a run reads
  data shard FOLDER OUT    pack a folder of images into tar files
  data info NAME  what a data set holds, with a picture if you like
  events info | show | convert FILE    recordings of event cameras, of every format
  doctor          what this machine can do, and which kernels run
  list [TOPIC]    models, recipes, datasets, neurons, surrogates, backends

`spikewise COMMAND --help` says more."""

TRAIN_HELP = """usage: spikewise train RECIPE [options]
       spikewise train --resume DIR [--epochs N] [--until N] [--data-root DIR] [--device D] [--workers N]

`spikewise list recipes` shows the recipes, `spikewise train RECIPE --help` every option."""


PLAN_HELP = """usage: spikewise plan RECIPE [options as for train] [--measure STEPS] [--device D] [--json]

`spikewise list recipes` shows the recipes, `spikewise plan RECIPE --help` every option."""


def main(args: list[str] | None = None) -> int:
    """Run a command; the exit status. A user's mistake is one line on standard error and status 2."""
    args = list(sys.argv[1:] if args is None else args)
    try:
        return run_command(args)
    except BrokenPipeError:  # the reader of our output went away, as in `spikewise list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        status = exit_status(error)
        if status is None or os.environ.get("SPIKEWISE_TRACEBACK"):
            raise
        print(f"spikewise: {sentence(error)}", file=sys.stderr)
        return status


def sentence(error: Exception) -> str:
    """What an error says, without the number of one of the system's."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def exit_status(error: Exception) -> int | None:
    """2 for a user's mistake and for what the machine lacks, 3 for a loss that is not finite, 128 + n after signal n;
    None for a mistake of our own.
    """
    if isinstance(error, ValueError | OSError | MemoryError):
        return 2
    if isinstance(error, ArithmeticError) and type(error).__module__.startswith("spikewise"):
        return 3
    return getattr(error, "status", None)


def run_command(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0 if args else 2
    command, rest = args[0], args[1:]
    if command == "train":
        if rest[:1] in (["-h"], ["--help"]):
            print(TRAIN_HELP)
            return 0
        train(rest)
    elif command == "plan":
        if rest[:1] in (["-h"], ["--help"]):
            print(PLAN_HELP)
            return 0
        plan(rest)
    elif command == "--version":
        from .. import __version__

        print(f"spikewise {__version__}")
    elif command in GROUPS:
        run_of_group(command, rest)
    elif command in COMMANDS:
        tyro.cli(COMMANDS[command], prog=f"spikewise {command}", args=rest)
    else:
        raise ValueError(f"no command named {command!r}; known: train, plan, {', '.join([*COMMANDS, *GROUPS])}")
    return 0


def run_of_group(group: str, args: list[str]) -> None:
    """A command of two words."""
    commands = GROUPS[group]
    if args[:1] in (["-h"], ["--help"]):
        for name, command in commands.items():
            print(f"spikewise {group} {name:<10} {first_line(command)}")
        return
    if not args or args[0] not in commands:
        raise ValueError(f"`spikewise {group}` knows {', '.join(commands)}; given {args[0] if args else 'nothing'}")
    tyro.cli(commands[args[0]], prog=f"spikewise {group} {args[0]}", args=args[1:])


def run() -> None:
    """The console script."""
    sys.exit(main())
