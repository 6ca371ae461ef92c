"""The command `spikewise convert`: weights under other libraries' names, or as a folder of ours."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ..wording import count
from .options import Connect, DataRoot, ModelName, RunOrFile, given, require_folders


def convert(
    run: RunOrFile,
    out: Annotated[Positional[Path], arg(metavar="OUT", help="NAME.pth or NAME.safetensors; of spikewise a folder")],
    to: Literal["authors", "spikingjelly", "torchvision", "spikewise"] = "spikewise",
    license: Annotated[str, arg(metavar="NAME", help="for the model card: of the weights, such as mit")] = "",
    data_root: DataRoot = None,
    name: ModelName = None,
    connect: Connect = None,
) -> None:
    """Weights under the names of the authors, SpikingJelly or torchvision, or as spikewise's own.

    Args:
        to: whose names; read are all four. Of spikewise, a model card stands beside the weights
    """
    from ..engine.run.folder import is_run
    from ..models.convert import write_tensors
    from ..models.weights import load_pretrained, save_pretrained

    require_folders(out)
    if to == "spikewise" and out.suffix:
        raise ValueError(f"OUT={out} has the ending of a file; spikewise's weights are a folder: leave it out, or say --to")
    if to != "spikewise" and license:
        raise ValueError("--license is for the model card, which stands beside spikewise's own weights: leave it out")
    net = load_pretrained(run, **given(name=name, connect=connect))
    size = sum(parameter.numel() for parameter in net.parameters())
    what = f"{count(len(net.state_dict()), 'tensor')} of {net.spec['name']}, {size:,} parameters"
    if to == "spikewise":
        from ..analysis.run_facts import describe_run
        from ..models.card import TrainingFacts

        facts = describe_run(run, license=license, data_root=data_root) if is_run(run) else TrainingFacts(license=license)
        print(f"{save_pretrained(net, out, facts=facts)}: {what}")
        return
    converted = write_tensors(net, to, out)
    print(f"{out}: {what}, each under its name of {to} ({converted.renamed} renamed)")
    if converted.untold:
        print(f"  not told by names and shapes: {', '.join(f'{key}={value!r}' for key, value in converted.untold.items())}")
    for remark in converted.remarks:
        print(f"  {remark}")
