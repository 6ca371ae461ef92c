"""The command `spikewise convert-ann`: a trained ReLU network as a spiking one."""

import json
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .options import DataName, DataRoot, Json, ModelName, RunOrFile, given


def convert_ann(
    run: RunOrFile,
    out: Annotated[Positional[Path], arg(metavar="OUT", help="folder of the spiking network's weights")],
    method: Literal["max", "percentile", "spike-norm"] = "percentile",
    percentile: Annotated[float | None, arg(metavar="FLOAT")] = None,
    steps: Annotated[int | None, arg(metavar="INT")] = None,
    T: Annotated[int, arg(metavar="INT")] = 256,
    reset: Literal["soft", "hard"] = "soft",
    samples: Annotated[int, arg(metavar="INT")] = 128,
    data_root: DataRoot = None,
    data_name: DataName = None,
    model: ModelName = None,
    as_json: Json = False,
) -> None:
    """Make a spiking network of a trained ReLU ResNet, whose firing rates are its activations.

    Args:
        method: how thresholds are balanced: by each layer's largest activation, by a percentile of them, or layer by layer on
            the spiking network's own currents (Spike-Norm)
        percentile: of the values of a layer; default 99.9, with spike-norm 100
        steps: spike-norm: time steps for which the spiking network is run; default 64
        T: time steps for which it shows an image
        reset: soft: a spike subtracts the threshold; hard: it puts the membrane to 0
        samples: of the training split, on which thresholds are balanced
    """
    from ..conversion import balance_thresholds, calibration_samples, with_thresholds
    from ..engine.evaluate import load_trained
    from ..engine.run.folder import is_run
    from ..models.network import require_positive
    from ..models.weights import save_pretrained

    require_positive(samples=samples, T=T)
    if is_run(out):
        raise ValueError(f"{out} is a run folder, whose weights these would hide; give another OUT")
    net, config = load_trained(run, data_root=data_root, data_name=data_name, **given(name=model))
    if config is None:
        raise ValueError(f"{run} does not say what it was trained on; name the data set: --data.name")
    images, soft = calibration_samples(config, samples), reset == "soft"
    thresholds = balance_thresholds(net, images, method, percentile=percentile, steps=steps, soft_reset=soft)
    twin = with_thresholds(net, thresholds, T=T, soft_reset=soft)
    file = save_pretrained(twin, out)
    if as_json:
        print(json.dumps({"file": str(file), "model": twin.spec["name"], "T": T, "thresholds": thresholds}))
        return
    print(f"{'layer':<28} {'a spike stands for':>20}")
    for name, threshold in thresholds.items():
        print(f"{name:<28} {threshold:>20.4g}")
    told = f"thresholds by {method} on {len(images):,} training images"
    print(f"{file}: {twin.spec['name']}, {T} time steps, {reset} reset; {told}")
    print(f"score it: spikewise evaluate {out}")
    print(f"train it on: spikewise train RECIPE --weights {out} --model.neuron STDB --model.T 16")
