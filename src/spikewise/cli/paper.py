"""The command `spikewise reproduce`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .options import DataFolder, Device, Workers


def reproduce(
    name: Annotated[Positional[str], arg(metavar="NAME")] = "list",
    out: Annotated[Path, arg(metavar="FOLDER")] = Path("reproduced"),
    seed: int = 0,
    images: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    size: int = 112,
    batch: int = 8,
    data_root: DataFolder = None,
    max_epochs: Annotated[int | None, arg(metavar="INT")] = None,
    check: bool = False,
    weights: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    batch_size: Annotated[int | None, arg(metavar="INT")] = None,
    from_ledger: bool = False,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Reproduce a figure, table or equation of the paper, beside the published logs.

    Args:
        name: a figure, table or equation; all: all that need no data; trained: all that are trained; list: what there is
        out: folder of NAME.json, NAME.md, NAME.svg and NAME.png, and of runs/
        seed: of weights, labels and the order of the data
        images: figures 5 to 8: a folder of photographs; default the embedded digits, enlarged
        size: figures 5 to 8: their side in pixels, 32 or more
        batch: figures 5 to 8: how many of them, 2 or more
        max_epochs: of what is trained, as all below: stop after so many epochs, with the learning rates of the whole published
            run, so that the published log can be compared at the same epoch; the same command with more epochs goes on
        check: a few steps on synthetic data, to see that all works; the pages lie in OUT/check
        weights: tab2, tab3, fig4: a folder of the published weights, evaluated in place of training
        from_ledger: degradation-*, conversion-*: make the page from OUT/NAME.jsonl, which has a line for each finished run, and
            train nothing
        batch_size: samples per step, if the published number does not fit; the learning rate is scaled with it
    """
    from ..paper import TRAINED, Options, list_entries
    from ..paper import reproduce as reproduce_results

    if name == "list":
        print("\n".join(list_entries()))
        return
    options = Options(
        seed=seed,
        images=images,
        size=size,
        batch=batch,
        data_root=str(data_root) if data_root else None,
        max_epochs=max_epochs,
        check=check,
        weights=weights,
        batch_size=batch_size,
        from_ledger=from_ledger,
        device=device,
        workers=workers,
    )
    for result, files in reproduce_results(name, options, out):
        print(result.title)
        if result.name in TRAINED:
            print(f"  {result.text}")
        for claim in result.claims:
            print(f"  {'so       ' if claim.holds else 'otherwise'}  {claim.statement}: {claim.evidence}")
        print(f"  {', '.join(map(str, files))}")
