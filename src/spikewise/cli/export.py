"""The command `spikewise export`: a network as a file that other programs run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from .options import Connect, ModelName, RunOrFile, given, require_folders

if TYPE_CHECKING:
    from ..models import Network


def export(
    run: RunOrFile,
    out: Annotated[Positional[Path], arg(metavar="OUT", help="NAME.onnx, or NAME.spk: an integer network, docs/integer.md")],
    step: bool = False,
    size: Annotated[
        int | tuple[int, int] | None, arg(metavar="INT|H,W", help="pixels of the input; default as the file says")
    ] = None,
    T: Annotated[int | None, arg(metavar="INT", help="frames of a sequence; default as trained")] = None,
    name: ModelName = None,
    connect: Connect = None,
) -> None:
    """Write a network for other programs: ONNX, or whole numbers of 8 and 32 bits.

    Args:
        step: ONNX: one step of a stream, with the neurons' states going in and out, in place of a whole sequence
    """
    from ..models.weights import load_pretrained

    if out.suffix not in (".onnx", ".spk"):
        raise ValueError(f"OUT={out} has another ending; use NAME.onnx, or NAME.spk for an integer network")
    require_folders(out)
    net = load_pretrained(run, **given(T=T, name=name, connect=connect))
    shape = input_size(net, size)
    if out.suffix == ".onnx":
        from ..export.onnx import export_onnx

        if step and T is not None:
            raise ValueError("--T is for a sequence; a step is one frame: leave it out, or leave out --step")
        export_onnx(net, out, shape=shape, T=net_steps(net, T), step=step)
        what = "one step, with its states" if step else "a sequence"
    else:
        from ..export.integer import export_integers, input_range

        if step:
            raise ValueError("--step is for ONNX; an integer network is run frame by frame as it is: leave it out")
        if T is not None:
            raise ValueError("--T is for ONNX; an integer network takes any number of frames: leave it out")
        unit, bound = input_range(net)
        export_integers(net, out, shape=shape, input_unit=unit, input_bound=bound)
        what = f"whole numbers; of the input 1 is {unit:.6g}, at most {bound}"
    print(f"{out}: {out.stat().st_size:,} bytes, {net.spec.get('name')}, {shape[0]} x {shape[1]} pixels, {what}")


def input_size(net: "Network", size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the input: as asked for, or as the weights say."""
    if size is not None:
        return (size, size) if isinstance(size, int) else size
    if net.input_spec is None:
        raise ValueError("these weights do not say what they were trained on; give the pixels of the input: --size 128")
    return net.input_spec.shape[1], net.input_spec.shape[2]


def net_steps(net: "Network", T: int | None) -> int:
    """Frames of a sequence: as asked for, or as recordings were cut in training, or as often as images are shown."""
    return T or (net.input_spec.num_frames if net.input_spec is not None else 0) or net.T
