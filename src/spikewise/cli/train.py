"""The commands `spikewise train`, `train --resume` and `evaluate`."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Suppress, arg

from .. import disk
from ..config import Config
from ..wording import count
from .analysis import analyze
from .options import (
    Connect,
    DataName,
    DataRoot,
    Device,
    Json,
    ModelName,
    Processes,
    Quiet,
    Run,
    RunOrFile,
    Steps,
    StopEpoch,
    Workers,
    given,
    require_folders,
)

if TYPE_CHECKING:
    import numpy as np

    from ..engine.evaluate import Answers
    from ..engine.metrics import Result


def train(
    config: Annotated[Config, arg(name="")],
    out: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    device: Device = "auto",
    workers: Workers = None,
    stop_epoch: StopEpoch = None,
    quiet: Quiet = False,
    as_json: Json = False,
    processes: Processes = None,
) -> None:
    """Train a network by a recipe; every field of it is an option.

    Args:
        out: run folder, new or empty; default runs/RECIPE-SEED
    """
    from ..engine.loop import train as train_network

    assert processes is None, "the command line starts several"
    result = train_network(config, out, device=device, workers=workers, stop_epoch=stop_epoch, quiet=quiet or as_json)
    print_result(result, device, quiet=quiet, as_json=as_json)


def require_data_root(config: Config) -> None:
    """Refuse a folder that can't be the data set's, before torch is imported, which takes seconds.

    Raises:  what the data set's `require_root` raises
    """
    from ..data.registry import DATASETS

    if (entry := DATASETS.get(config.data.name)) and entry.require_root:
        entry.require_root(config.data.root)


def resume(
    run: Run,
    epochs: Annotated[int | None, arg(metavar="INT")] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    workers: Workers = None,
    stop_epoch: StopEpoch = None,
    quiet: Quiet = False,
    as_json: Json = False,
    processes: Processes = None,
    imports: Annotated[tuple[str, ...], Suppress] = (),
) -> None:
    """Continue a run that was stopped, bit for bit on the same machine.

    Args:
        epochs: more epochs than it was begun with; default as many
    """
    from ..engine.loop import resume as resume_run

    assert processes is None, "the command line starts several"
    result = resume_run(
        run,
        epochs=epochs,
        data_root=data_root,
        device=device,
        workers=workers,
        stop_epoch=stop_epoch,
        quiet=quiet or as_json,
        imports=imports,
    )
    print_result(result, device, quiet=quiet, as_json=as_json, data_root=data_root)


def print_result(result: "Result", device: Device, *, quiet: bool, as_json: bool, data_root: str | None = None) -> None:
    """Firing rates by block, and as the last line what the run reached; of several processes rank 0 says it."""
    from ..engine.distributed import whole_number
    from ..models.registry import MODELS

    if whole_number("RANK", 0):
        return
    config, done = progress(result.run)
    if as_json:
        print(json.dumps({"recipe": config.recipe, "seed": config.seed, **vars(result), "run": str(result.run)}))
        return
    if MODELS[config.model.name].spiking and not quiet:
        analyze(result.run, device=device, data_root=data_root)
    words = {"test": "test split", "validation": "samples held out for validation"}
    print(
        f"test accuracy: final {100 * result.final:.1f} % ({result.correct} of {result.total}), "
        f"mean of the last {count(result.num_averaged, 'epoch')} {100 * result.mean_last_epochs:.1f} %, "
        f"best {100 * result.best:.1f} % (epoch {result.best_epoch}, chosen on the {words[result.chosen_on]})"
    )
    ran = f"{config.model.name} on {config.data.name}"
    print(f"{ran}: test accuracy {100 * result.final:.1f} % (seed {config.seed}), run folder {result.run}")
    if done < config.optim.epochs:
        print(f"unfinished, {done} of {count(config.optim.epochs, 'epoch')}: go on with spikewise train --resume {result.run}")


def progress(run: Path) -> tuple[Config, int]:
    """A run's config, and how many of its epochs are done: those before its newest checkpoint."""
    from ..engine.run.checkpoint import step_number
    from ..engine.run.folder import CHECKPOINTS, METRICS, read_config, read_lines

    newest = step_number(disk.follow(run / CHECKPOINTS / "last").resolve())
    return read_config(run), sum(line["step"] <= newest for line in read_lines(run / METRICS))


def evaluate(
    run: RunOrFile,
    checkpoint: Literal["last", "best"] = "last",
    device: Device = "auto",
    data_root: DataRoot = None,
    data_name: DataName = None,
    T: Steps = None,
    batch: Annotated[int | None, arg(help="samples computed at once; default as in training")] = None,
    by_class: Annotated[bool, arg(help="accuracy of each class, and what it is taken for")] = False,
    csv_file: Annotated[Path | None, arg(name="csv", metavar="FILE", help="write the answer to each sample")] = None,
    name: ModelName = None,
    connect: Connect = None,
    as_json: Json = False,
) -> None:
    """Accuracy of a run, or a weights file, on the test split.

    Args:
        checkpoint: the last weights, or those of the best epoch (chosen on samples held out for validation, or the test split)
    """
    from ..engine.evaluate import Answers
    from ..engine.evaluate import evaluate as evaluate_run
    from ..engine.run.folder import is_run as is_run_folder

    require_folders(csv_file)
    answers = Answers()
    score = evaluate_run(
        run,
        device=device,
        checkpoint=checkpoint,
        data_root=data_root,
        data_name=data_name,
        batch=batch,
        answers=answers,
        quiet=as_json,
        **given(T=T, name=name, connect=connect),
    )
    is_run = is_run_folder(run)
    config, done = progress(run) if is_run else (None, 0)
    names, confusion = answers.class_names, answers.confusion()
    if csv_file is not None:
        write_answers(csv_file, answers)
    if as_json:
        header = {"run": str(run), "checkpoint": checkpoint, "accuracy": score.accuracy}
        more = {"classes": names, "confusion": confusion.tolist()}
        print(json.dumps({**header, **vars(score), "epochs": done, **more}))
        return
    unfinished = ""
    if config is not None and done < config.optim.epochs:
        unfinished = f", unfinished: {done} of {count(config.optim.epochs, 'epoch')}"
    said = f" ({checkpoint}{unfinished})" if is_run else ""
    top5 = f", top-5 {100 * score.correct_top5 / score.total:.2f} %" if len(names) > 5 else ""
    correct = f"{score.correct} of {score.total}"
    print(f"{run}{said}: test accuracy {100 * score.accuracy:.2f} % ({correct}), loss {score.loss:.4f}{top5}")
    if by_class:
        print(class_table(confusion, names))


def class_table(confusion: "np.ndarray", names: tuple[str, ...]) -> str:
    """Accuracy of each class, and the classes it is most often taken for."""
    width = max(map(len, names))
    lines = []
    for name, row, right in zip(names, confusion, confusion.diagonal(), strict=True):
        others = sorted(
            ((number, other) for other, number in zip(names, row, strict=True) if other != name and number), reverse=True
        )
        taken = f"  taken for {', '.join(f'{other} {number}' for number, other in others[:3])}" if others else ""
        share = f"{100 * right / row.sum():6.2f} %" if row.sum() else "no sample"
        lines.append(f"  {name:<{width}}  {share}  {right} of {row.sum()}{taken}")
    return "\n".join(lines)


def write_answers(file: Path, answers: "Answers") -> None:
    """A line per sample, in the order of the test split: its file or number, its class, the answer, its probability."""
    names = answers.class_names
    columns = zip(answers.sources, answers.labels, answers.predicted, answers.probability, strict=True)
    with io.StringIO(newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["sample", "class", "predicted", "probability"])
        writer.writerows([source, names[label], names[found], f"{value:.6f}"] for source, label, found, value in columns)
        disk.atomic_write(file.absolute(), opened.getvalue().encode())
