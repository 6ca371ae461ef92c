"""Figures 5 to 8: firing rates and gradients of the 152-layer networks before training."""

import math
import statistics
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from ..analysis.block_stats import BlockStats, identity_areas, measure_blocks
from ..analysis.figures import COLOUR_OF, MARK_OF, legend_below, log_axis, panels
from ..analysis.sample_images import load_sample_images
from ..models import build_model
from .options import Options
from .page import Claim, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIN_PLOTTED_GRADIENT = 1e-20
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {  # name in the figure: network, options
    "Spiking": ("spiking_resnet152", {}),
    "SEW ADD": ("sew_resnet152", {"connect": "ADD"}),
    "SEW AND": ("sew_resnet152", {"connect": "AND"}),
    "SEW IAND": ("sew_resnet152", {"connect": "IAND"}),
}
NetworkStats = dict[tuple[str, bool], list[BlockStats]]  # by (network, zero init)


def measure_networks(o: Options, *, v_th: float, alpha: float) -> NetworkStats:
    """Every network with and without zero init, from the same weights."""
    images = load_sample_images(o.images, size=o.size, batch=o.batch)
    labels = torch.randint(0, 1000, (len(images),), generator=torch.Generator().manual_seed(o.seed))
    stats: NetworkStats = {}
    for name, (network, options) in NETWORKS.items():
        for zero_init in (False, True):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(o.seed)
                net = build_model(network, num_classes=1000, v_th=v_th, alpha=alpha, zero_init=zero_init, **options)
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            stats[name, zero_init] = measure_blocks(net, images, labels)
    return stats


def result_rows(stats: NetworkStats) -> list[list]:
    columns = ["network", "zero init", "block", "name", "changes shape", "rate of A", "rate of O", "gradient"]
    rows = [
        [name, zero_init, i, block.name, block.has_projection, block.branch, block.output, block.grad_input_norm]
        for (name, zero_init), blocks in stats.items()
        for i, block in enumerate(blocks)
    ]
    return [columns, *rows]


def area_gradients(blocks: list[BlockStats]) -> list[list[float]]:
    """Gradients at the blocks of each identity mapping area of two or more."""
    return [[block.grad_input_norm for block in area] for area in identity_areas(blocks) if len(area) > 1]


def max_area_spread(blocks: list[BlockStats]) -> float:
    """The largest ratio of gradients within an identity mapping area."""
    return max(max(area) / max(min(area), 1e-300) for area in area_gradients(blocks))


def area_growths(blocks: list[BlockStats]) -> list[float]:
    """The growth of gradients from the last block of an identity mapping area to its first, by area."""
    return [area[0] / area[-1] for area in area_gradients(blocks) if area[-1]]


def mean_area_growth(blocks: list[BlockStats]) -> float:
    """The geometric mean of `area_growths`; 0 where a gradient vanished."""
    growths = area_growths(blocks)
    return statistics.geometric_mean(growths) if growths and all(growths) else 0.0


def format_growths(blocks: list[BlockStats]) -> str:
    """The mean factor, and those of all areas in the order of depth."""
    return f"by {mean_area_growth(blocks):.2g} per area ({', '.join(f'{factor:.2g}' for factor in area_growths(blocks))})"


def small_batch_note(o: Options) -> str:
    """Why the gradient of Spiking without zero init grows here instead of decaying."""
    return (
        f" **Spiking without zero init grows here**, because {o.batch} images of {o.size} x {o.size} pixels are too few values "
        "for its batch norms: the fewer there are, the more they enlarge what comes through the branches. In the longest area, "
        "35 blocks whose images are a sixteenth as wide, it changed by 10 with 64 values per channel and time step, 2.1 with "
        "128, 1.3 with 196, 0.65 with 256, 0.5 with 392 and 0.34 with 784 (means of one to three seeds, which hardly differ)."
    )


def fig5(o: Options) -> Result:
    """Fig. 5: firing rates of O and A in every block of the 152-layer networks, before training."""
    stats = measure_networks(o, v_th=1.0, alpha=2.0)
    last_and, last_iand = (stats[name, False][-1].output for name in ("SEW AND", "SEW IAND"))
    add = identity_areas(stats["SEW ADD", False])
    increasing = all(a.output < b.output for area in add for a, b in pairwise(area))
    longest = [block.output for block in max(add, key=len)]
    steps = sorted(b - a for a, b in pairwise(longest))
    add_branch = [block.branch for area in add for block in area]
    iand_branch = [block.branch for block in stats["SEW IAND", False]]
    deep_and = max(block.branch for block in stats["SEW AND", False][len(iand_branch) // 2 :])
    reference, *others = (stats[name, True] for name in NETWORKS)
    difference = max(abs(a.output - b.output) for blocks in others for a, b in zip(reference, blocks, strict=True))
    claims = [
        Claim("without zero init SEW AND falls silent", last_and < 0.01, f"rate of the last block's output {last_and:.2g}"),
        Claim(
            "IAND relieves the silence",
            last_iand > 10 * last_and and last_iand > 0.01,
            f"{last_iand:.2g} where AND has {last_and:.2g}",
        ),
        Claim(
            "the output of SEW ADD increases linearly in the identity mapping areas",
            increasing
            and statistics.correlation(range(len(longest)), longest) ** 2 > 0.99,  # the variance that a line explains
            f"by {steps[0]:.2g} to {steps[-1]:.2g} per block of the longest area, to {longest[-1]:.3g}",
        ),
        Claim(
            "its neurons keep a stable rate",
            min(add_branch) > 0.01,
            f"rate of A {min(add_branch):.2g} to {max(add_branch):.2g} in identity areas",
        ),
        Claim(
            "those of SEW IAND keep an adequate one",
            min(iand_branch) > 0.01,
            f"rate of A {min(iand_branch):.2g} to {max(iand_branch):.2g}",
        ),
        Claim(
            "those in deep layers of SEW AND keep silent",
            deep_and < 0.01,
            f"rate of A {deep_and:.2g} at most in the deeper half",
        ),
        Claim(
            "with zero init all four have the same rates",
            difference < 1e-3,
            f"they differ by {difference:.2g} at most, where a current comes to lie on the threshold",
        ),
    ]
    text = (
        "Mean of every block's output and of its branch's last neurons, one batch in training mode. Dotted lines: blocks that "
        "change the shape; between them lie the identity mapping areas."
    )
    title = "Fig. 5: firing rates of the 152-layer networks before training"
    return Result("fig5", title, text, result_rows(stats), claims, {"fig5": plot_rates(stats)})


def plot_rates(stats: NetworkStats) -> "Figure":
    """O, O once more where ADD does not hide the others, and A."""
    figure, axes = panels(3)
    titles = (("output", "(a) output $O^l$"), ("output", "(a), enlarged"), ("branch", "(b) branch's last neurons $A^l$"))
    for ax, (quantity, title) in zip(axes, titles, strict=True):
        for i, ((name, zero_init), blocks) in enumerate(stats.items()):
            hollow = {"fillstyle": "none", "markersize": 5} if zero_init else {}  # so that coinciding curves can be seen
            style = curve_style(name) | {"linestyle": "--" if zero_init else "-", "markevery": (i, 8)} | hollow
            label = f"{name}, zero init" if zero_init else name
            ax.plot([getattr(block, quantity) for block in blocks], label=label, **style)
        mark_projection_blocks(ax, stats["SEW ADD", False])
        ax.set(xlabel="block $l$", title=title)
    axes[0].set_ylabel("firing rate")
    axes[1].set_ylim(-0.02, 0.5)
    legend_below(figure, axes[0], 4)
    return figure


def curve_style(name: str) -> dict[str, Any]:
    return {"color": COLOUR_OF[name], "marker": MARK_OF[name], "linewidth": 1, "markersize": 3}


def mark_projection_blocks(ax: "Axes", blocks: list[BlockStats]) -> None:
    for i, block in enumerate(blocks):
        if block.has_projection:
            ax.axvline(i, color="#bbbbbb", linewidth=0.7, linestyle=":", zorder=0)


def gradient_figure(name: str, o: Options, v_th: float, alpha: float) -> tuple[NetworkStats, Result]:
    """Gradient amplitudes of all networks, as figures 6 to 8 show them."""
    stats = measure_networks(o, v_th=v_th, alpha=alpha)
    title = f"Fig. {name[3:]}: gradients of the 152-layer networks before training, V_th = {v_th:g}, alpha = {alpha:g}"
    vanished = sum(block.grad_input_norm == 0 for block in stats["SEW AND", False])
    text = (
        "Norm of the loss's gradient at the input of every block; the gradient comes from the right. Dotted lines: blocks that "
        f"change the shape. In {vanished} of {len(stats['SEW AND', False])} blocks of SEW AND without zero init it is exactly "
        "0, which a logarithmic axis can't show: branch and shortcut of the last blocks are silent, and a AND s = a s passes "
        "to either one the gradient times the other."
    )
    return stats, Result(name, title, text, result_rows(stats), [], {name: plot_gradients(stats)})


def plot_gradients(stats: NetworkStats) -> "Figure":
    """Without and with zero init, as far down as 1e-20."""
    figure, axes = panels(2)
    for ax, zero_init in zip(axes, (False, True), strict=True):
        for i, network in enumerate(NETWORKS):
            norms = [block.grad_input_norm for block in stats[network, zero_init]]
            values = [norm if norm > MIN_PLOTTED_GRADIENT else math.nan for norm in norms]
            ax.plot(values, label=network, markevery=(2 * i, 8), **curve_style(network))
        log_axis(ax)
        mark_projection_blocks(ax, stats["SEW ADD", False])
        ax.set(xlabel="block $l$", title="with zero init" if zero_init else "without zero init")
    axes[0].set_ylabel(r"$\|\partial L / \partial S^l\|$")
    legend_below(figure, axes[0], 4)
    return figure


def claim_constant_gradients(stats: NetworkStats) -> Claim:
    """With zero init SEW's gradients are constant in the identity mapping areas, whatever g."""
    spreads = {name: max_area_spread(stats[name, True]) for name in NETWORKS if name != "Spiking"}
    evidence = ", ".join(f"{name} {value:.4f}" for name, value in spreads.items())
    statement = "SEW with zero init: constant in the identity mapping areas"
    return Claim(statement, max(spreads.values()) < 1.01, f"largest over smallest: {evidence}")


def fig6(o: Options) -> Result:
    """Fig. 6: gradient amplitude of every block, V_th = 1, alpha = 2."""
    stats, result = gradient_figure("fig6", o, 1.0, 2.0)
    spiking, zero_init = stats["Spiking", False], stats["Spiking", True]
    first_and, *_, last_and = (block.grad_input_norm for block in stats["SEW AND", False])
    growths = {name: mean_area_growth(stats[name, False]) for name in ("SEW ADD", "SEW IAND")}
    decays, vanishing = mean_area_growth(spiking) < 1, first_and / max(last_and, 1e-300)
    result.claims = [
        Claim("Spiking without zero init decays towards shallow blocks", decays, format_growths(spiking)),
        Claim("it decays with zero init, too", mean_area_growth(zero_init) < 1, format_growths(zero_init)),
        claim_constant_gradients(stats),
        Claim("SEW AND without zero init vanishes", vanishing < 1e-3, f"first block over last {vanishing:.2g}"),
        *(
            Claim(
                f"{name} without zero init grows slowly towards shallow blocks", 1 < growth < 100, f"by {growth:.2g} per area"
            )
            for name, growth in growths.items()
        ),
    ]
    if not decays:
        result.text += small_batch_note(o)
    return result


def fig7(o: Options) -> Result:
    """Fig. 7: gradient amplitude of every block, V_th = 0.5, alpha = 2."""
    stats, result = gradient_figure("fig7", o, 0.5, 2.0)
    spiking, zero_init = stats["Spiking", False], stats["Spiking", True]
    result.claims = [
        Claim("Spiking vanishes", mean_area_growth(spiking) < 1, format_growths(spiking)),
        Claim("with zero init more so", mean_area_growth(zero_init) < mean_area_growth(spiking), format_growths(zero_init)),
        claim_constant_gradients(stats),
    ]
    return result


def fig8(o: Options) -> Result:
    """Fig. 8: gradient amplitude of every block, V_th = 1, alpha = 3."""
    stats, result = gradient_figure("fig8", o, 1.0, 3.0)
    spiking, zero_init = (mean_area_growth(stats["Spiking", zero_init]) for zero_init in (False, True))
    others = {name: mean_area_growth(stats[name, False]) for name in ("SEW ADD", "SEW IAND")}
    result.claims = [
        Claim("Spiking explodes", zero_init > 10, f"with zero init by {zero_init:.2g} per area, without by {spiking:.2g}"),
        Claim(
            "SEW ADD and IAND much less",
            max(others.values()) < zero_init,
            ", ".join(f"{name} {value:.2g}" for name, value in others.items()),
        ),
        claim_constant_gradients(stats),
    ]
    return result
