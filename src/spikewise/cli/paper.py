"""The command `spikewise reproduce`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional


def reproduce(
    name: Positional[str] = "list",
    out: Path = Path("reproduced"),
    seed: int = 0,
    images: Path | None = None,
    size: int = 112,
    batch: int = 8,
    data_root: str | None = None,
    max_epochs: Annotated[int | None, tyro.conf.arg(aliases=["--budget"])] = None,
    check: bool = False,
    weights: Path | None = None,
    batch_size: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    workers: int | None = None,
) -> None:
    """The paper's figures, tables and equations: numbers held against the paper and the published logs, and pictures.

    Args:
        name: a figure, table or equation; all that need no data: all; all that are trained: trained; what there is: list
        out: folder of NAME.json, NAME.md, NAME.svg and NAME.png, and of runs/
        seed: of weights, labels and the order of the data
        images: figures 5 to 8: a folder of photographs; default the embedded digits, enlarged
        size: figures 5 to 8: their side in pixels, 32 or more
        batch: figures 5 to 8: how many of them, 2 or more
        data_root: what is trained: where the data lies; default SPIKEWISE_DATA, or ./data
        max_epochs: what is trained: stop after so many epochs, with the learning rates of the whole published run, so that the
            published log can be compared at the same epoch; the same command with more epochs goes on from there
        check: what is trained: a few steps on synthetic data, to see that all works; its pages lie in OUT/check
        weights: tab2, tab3, fig4: a folder of the published weights, evaluated in place of training
        batch_size: what is trained: samples per step, if the published number does not fit; the learning rate goes with it
        device: what is trained: where
        workers: what is trained: processes that make batches
    """
    from ..paper import TRAINED, Options, list_entries
    from ..paper import reproduce as make

    if name == "list":
        print("\n".join(list_entries()))
        return
    options = Options(
        seed=seed,
        images=images,
        size=size,
        batch=batch,
        data_root=data_root,
        max_epochs=max_epochs,
        check=check,
        weights=weights,
        batch_size=batch_size,
        device=device,
        workers=workers,
    )
    for result, files in make(name, options, out):
        print(result.title)
        if result.name in TRAINED:
            print(f"  {result.text}")
        for claim in result.claims:
            print(f"  {'so       ' if claim.holds else 'otherwise'}  {claim.statement}: {claim.evidence}")
        print(f"  {', '.join(map(str, files))}")
