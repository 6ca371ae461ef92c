"""The commands `spikewise train`, `train --resume` and `evaluate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from ..config import Config
from ..wording import count
from .analysis import analyze
from .options import DataRoot, Device, Json, Quiet, Run, StopEpoch, Workers

if TYPE_CHECKING:
    from ..engine.metrics import Result


def train(
    config: Annotated[Config, arg(name="")],
    out: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    device: Device = "auto",
    workers: Workers = None,
    stop_epoch: StopEpoch = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a network by a recipe; every field of it is an option.

    Args:
        out: run folder, new or empty; default runs/RECIPE-SEED
    """
    from ..engine.loop import train as train_network

    result = train_network(config, out, device=device, workers=workers, stop_epoch=stop_epoch, quiet=quiet or as_json)
    print_result(result, device, quiet=quiet, as_json=as_json)


def resume(
    run: Run,
    epochs: Annotated[int | None, arg(metavar="INT")] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    workers: Workers = None,
    stop_epoch: StopEpoch = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Continue a run that was stopped, bit for bit on the same machine.

    Args:
        epochs: more epochs than it was begun with; default as many
    """
    from ..engine.loop import resume as resume_run

    result = resume_run(
        run,
        epochs=epochs,
        data_root=data_root,
        device=device,
        workers=workers,
        stop_epoch=stop_epoch,
        quiet=quiet or as_json,
    )
    print_result(result, device, quiet=quiet, as_json=as_json, data_root=data_root)


def print_result(result: "Result", device: Device, *, quiet: bool, as_json: bool, data_root: str | None = None) -> None:
    """Firing rates by block, and as the last line what the run reached."""
    from ..models.registry import MODELS

    config, done = progress(result.run)
    if as_json:
        print(json.dumps({"recipe": config.recipe, "seed": config.seed, **vars(result), "run": str(result.run)}))
        return
    if MODELS[config.model.name].spiking and not quiet:
        analyze(result.run, device=device, data_root=data_root)
    print(
        f"test accuracy: final {100 * result.final:.1f} % ({result.correct} of {result.total}), "
        f"mean of the last {count(result.num_averaged, 'epoch')} {100 * result.mean_last_epochs:.1f} %, "
        f"best {100 * result.best:.1f} % (epoch {result.best_epoch}, chosen on the test split)"
    )
    ran = f"{config.model.name} on {config.data.name}"
    print(f"{ran}: test accuracy {100 * result.final:.1f} % (seed {config.seed}), run folder {result.run}")
    if done < config.optim.epochs:
        print(f"unfinished, {done} of {count(config.optim.epochs, 'epoch')}: go on with spikewise train --resume {result.run}")


def progress(run: Path) -> tuple[Config, int]:
    """A run's config, and how many of its epochs are done."""
    from ..engine.run.folder import METRICS, read_config, read_lines

    return read_config(run), len(read_lines(run / METRICS))


def evaluate(
    run: Run,
    checkpoint: Literal["last", "best"] = "last",
    device: Device = "auto",
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Accuracy of a run on its test split.

    Args:
        checkpoint: the last weights, or those of the best epoch (chosen on the test split)
    """
    from ..engine.evaluate import evaluate as evaluate_run

    score = evaluate_run(run, device=device, checkpoint=checkpoint, data_root=data_root, quiet=as_json)
    config, done = progress(run)
    if as_json:
        header = {"run": str(run), "checkpoint": checkpoint, "accuracy": score.accuracy}
        print(json.dumps({**header, **vars(score), "epochs": done}))
        return
    unfinished = f", unfinished: {done} of {count(config.optim.epochs, 'epoch')}" if done < config.optim.epochs else ""
    correct = f"{score.correct} of {score.total}"
    print(f"{run} ({checkpoint}{unfinished}): test accuracy {100 * score.accuracy:.2f} % ({correct}), loss {score.loss:.4f}")
