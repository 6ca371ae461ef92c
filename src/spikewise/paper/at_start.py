"""Figures 5 to 8: firing rates and gradients of the 152-layer networks before training."""

import math
import statistics
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from ..analysis.figures import COLOUR_OF, MARK_OF, legend_below, panels, whole_decades
from ..analysis.initial import BlockAtStart, identity_areas, measure
from ..analysis.pictures import pictures
from ..models import build_model
from .options import Options
from .page import Claim, Clock, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST = 1e-20  # gradient that is drawn
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {  # name in the figure: network, options
    "Spiking": ("spiking_resnet152", {}),
    "SEW ADD": ("sew_resnet152", {"connect": "ADD"}),
    "SEW AND": ("sew_resnet152", {"connect": "AND"}),
    "SEW IAND": ("sew_resnet152", {"connect": "IAND"}),
}
Curves = dict[tuple[str, bool], list[BlockAtStart]]  # by (network, zero init)


def curves(o: Options, *, v_th: float, alpha: float) -> Curves:
    """Every network with and without zero init, from the same weights."""
    images = pictures(o.images, size=o.size, batch=o.batch)
    labels = torch.randint(0, 1000, (len(images),), generator=torch.Generator().manual_seed(o.seed))
    found: Curves = {}
    for name, (network, options) in NETWORKS.items():
        for zero_init in (False, True):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(o.seed)
                net = build_model(network, num_classes=1000, v_th=v_th, alpha=alpha, zero_init=zero_init, **options)
            found[name, zero_init] = measure(net.to(memory_format=torch.channels_last), images, labels)  # type: ignore[call-overload]
    return found


def table(found: Curves) -> list[list]:
    columns = ["network", "zero init", "block", "name", "changes shape", "rate of A", "rate of O", "gradient"]
    rows = [
        [name, zero_init, i, block.name, block.has_projection, block.branch, block.output, block.gradient]
        for (name, zero_init), blocks in found.items()
        for i, block in enumerate(blocks)
    ]
    return [columns, *rows]


def label(name: str, zero_init: bool) -> str:
    return f"{name}, zero init" if zero_init else name


def decade(value: float) -> str:
    return f"{value:.2g}"


def spread(blocks: list[BlockAtStart]) -> float:
    """The largest ratio of gradients within an identity mapping area."""
    ratios = [
        max(b.gradient for b in area) / max(min(b.gradient for b in area), 1e-300)
        for area in identity_areas(blocks)
        if len(area) > 1
    ]
    return max(ratios)


def growths(blocks: list[BlockAtStart]) -> list[float]:
    """By what factor gradients change from an identity mapping area's last block to its first, for each area."""
    return [area[0].gradient / area[-1].gradient for area in identity_areas(blocks) if len(area) > 1 and area[-1].gradient]


def growth(blocks: list[BlockAtStart]) -> float:
    """Their geometric mean."""
    factors = growths(blocks)
    return statistics.geometric_mean(factors) if factors and all(factors) else 0.0


def per_area(blocks: list[BlockAtStart]) -> str:
    """The mean factor, and those of all areas in the order of depth."""
    return f"by {growth(blocks):.2g} per area ({', '.join(f'{factor:.2g}' for factor in growths(blocks))})"


def few_values(o: Options) -> str:
    """Why the gradient of Spiking without zero init grows here, in place of decaying."""
    return (
        f" **Spiking without zero init grows here**, because {o.batch} images of {o.size} x {o.size} pixels are too few values "
        "for its batch norms: the fewer there are, the more they enlarge what comes through the branches. In the longest area, "
        "35 blocks whose images are a sixteenth as wide, it changed by 10 with 64 values per channel and time step, 2.1 with "
        "128, 1.3 with 196, 0.65 with 256, 0.5 with 392 and 0.34 with 784 (means of one to three seeds, which hardly differ)."
    )


def straightness(values: list[float]) -> float:
    """How much of what values vary a straight line explains: R squared."""
    return statistics.correlation(range(len(values)), values) ** 2


def fig5(o: Options) -> Result:
    """Fig. 5: firing rates of O and A in every block of the 152-layer networks, before training."""
    clock, found = Clock(), curves(o, v_th=1.0, alpha=2.0)
    last = {key: blocks[-1] for key, blocks in found.items()}
    silent, iand = last["SEW AND", False].output, last["SEW IAND", False].output
    add = identity_areas(found["SEW ADD", False])
    rising = all(a.output < b.output for area in add for a, b in pairwise(area))
    longest = max(add, key=len)
    steps = sorted(b.output - a.output for a, b in pairwise(longest))
    steady = [block.branch for area in add for block in area]
    iands = [block.branch for block in found["SEW IAND", False]]
    deep = found["SEW AND", False][len(iands) // 2 :]
    zero = [found[name, True] for name in NETWORKS]
    apart = max(abs(a.output - b.output) for blocks in zero[1:] for a, b in zip(zero[0], blocks, strict=True))
    claims = [
        Claim("without zero init SEW AND falls silent", silent < 0.01, f"rate of the last block's output {silent:.2g}"),
        Claim("IAND relieves the silence", iand > 10 * silent and iand > 0.01, f"{iand:.2g} where AND has {silent:.2g}"),
        Claim(
            "the output of SEW ADD increases linearly in the identity mapping areas",
            rising and straightness([block.output for block in longest]) > 0.99,
            f"by {steps[0]:.2g} to {steps[-1]:.2g} per block of the longest area, to {longest[-1].output:.3g}",
        ),
        Claim(
            "its neurons keep a stable rate",
            min(steady) > 0.01,
            f"rate of A {min(steady):.2g} to {max(steady):.2g} in identity areas",
        ),
        Claim("those of SEW IAND keep an adequate one", min(iands) > 0.01, f"rate of A {min(iands):.2g} to {max(iands):.2g}"),
        Claim(
            "those in deep layers of SEW AND keep silent",
            max(block.branch for block in deep) < 0.01,
            f"rate of A {max(block.branch for block in deep):.2g} at most in the deeper half",
        ),
        Claim(
            "with zero init all four have the same rates",
            apart < 1e-3,
            f"they differ by {apart:.2g} at most, where a current comes to lie on the threshold",
        ),
    ]
    about = (
        "Mean of every block's output and of its branch's last neurons, one batch in training mode. Dotted lines: blocks that "
        "change the shape; between them lie the identity mapping areas."
    )
    title = "Fig. 5: firing rates of the 152-layer networks before training"
    return Result("fig5", title, about, table(found), claims, {"fig5": draw_rates(found)}, float(clock))


def draw_rates(found: Curves) -> "Figure":
    """O, O once more where ADD does not hide the others, and A."""
    figure, axes = panels(3)
    titles = (("output", "(a) output $O^l$"), ("output", "(a), enlarged"), ("branch", "(b) branch's last neurons $A^l$"))
    for ax, (what, title) in zip(axes, titles, strict=True):
        for i, ((name, zero_init), blocks) in enumerate(found.items()):
            values = [getattr(block, what) for block in blocks]
            line = "--" if zero_init else "-"
            ax.plot(values, line, label=label(name, zero_init), markevery=(i, 8), **style(name, zero_init=zero_init))
        mark_changes(ax, found["SEW ADD", False])
        ax.set(xlabel="block $l$", title=title)
    axes[0].set_ylabel("firing rate")
    axes[1].set_ylim(-0.02, 0.5)
    legend_below(figure, axes[0], 4)
    return figure


def style(name: str, *, zero_init: bool = False) -> dict[str, Any]:
    """A network's colour and mark; hollow with zero init, so that curves on one another are all seen."""
    hollow = {"fillstyle": "none", "markersize": 5} if zero_init else {"markersize": 3}
    return {"color": COLOUR_OF[name], "marker": MARK_OF[name], "linewidth": 1, **hollow}


def mark_changes(ax: "Axes", blocks: list[BlockAtStart]) -> None:
    for i, block in enumerate(blocks):
        if block.has_projection:
            ax.axvline(i, color="#bbbbbb", linewidth=0.7, linestyle=":", zorder=0)


def gradients(name: str, o: Options, v_th: float, alpha: float) -> tuple[Curves, Result]:
    """Gradient amplitudes of all networks, as figures 6 to 8 draw them."""
    clock, found = Clock(), curves(o, v_th=v_th, alpha=alpha)
    what = f"gradients of the 152-layer networks before training, V_th = {v_th:g}, alpha = {alpha:g}"
    title = f"{name.replace('fig', 'Fig. ')}: {what}"
    silent = sum(block.gradient == 0 for block in found["SEW AND", False])
    about = (
        "Norm of the loss's gradient at the input of every block; the gradient comes from the right. Dotted lines: blocks that "
        f"change the shape. In {silent} of {len(found['SEW AND', False])} blocks of SEW AND without zero init it is exactly 0, "
        "which a logarithmic axis can't show: branch and shortcut of the last blocks are silent, and a AND s = a s passes to "
        "either one the gradient times the other."
    )
    return found, Result(name, title, about, table(found), [], {name: draw_gradients(found)}, float(clock))


def draw_gradients(found: Curves) -> "Figure":
    """Without and with zero init, as far down as 1e-20."""
    figure, axes = panels(2)
    for ax, zero_init in zip(axes, (False, True), strict=True):
        for i, network in enumerate(NETWORKS):
            values = [block.gradient if block.gradient > LEAST else math.nan for block in found[network, zero_init]]
            ax.plot(values, label=network, markevery=(2 * i, 8), **style(network))
        whole_decades(ax)
        mark_changes(ax, found["SEW ADD", False])
        ax.set(xlabel="block $l$", title="with zero init" if zero_init else "without zero init")
    axes[0].set_ylabel(r"$\|\partial L / \partial S^l\|$")
    legend_below(figure, axes[0], 4)
    return figure


def flat(found: Curves) -> list[Claim]:
    """With zero init SEW's gradients are constant in the identity mapping areas, whatever g."""
    spreads = {name: spread(found[name, True]) for name in NETWORKS if name != "Spiking"}
    evidence = ", ".join(f"{name} {value:.4f}" for name, value in spreads.items())
    return [
        Claim(
            "SEW with zero init: constant in the identity mapping areas",
            max(spreads.values()) < 1.01,
            f"largest over smallest: {evidence}",
        )
    ]


def fig6(o: Options) -> Result:
    """Fig. 6: gradient amplitude of every block, V_th = 1, alpha = 2."""
    found, result = gradients("fig6", o, 1.0, 2.0)
    decays = {zero: growth(found["Spiking", zero]) for zero in (False, True)}
    rest = {name: growth(found[name, False]) for name in ("SEW ADD", "SEW IAND")}
    silent = found["SEW AND", False][0].gradient / max(found["SEW AND", False][-1].gradient, 1e-300)
    result.claims += [
        Claim("Spiking without zero init decays towards shallow blocks", decays[False] < 1, per_area(found["Spiking", False])),
        Claim("it decays with zero init, too", decays[True] < 1, per_area(found["Spiking", True])),
        *flat(found),
        Claim("SEW AND without zero init vanishes", silent < 1e-3, f"first block over last {silent:.2g}"),
        *(
            Claim(f"{name} without zero init grows slowly towards shallow blocks", 1 < rate < 100, f"by {rate:.2g} per area")
            for name, rate in rest.items()
        ),
    ]
    if decays[False] >= 1:
        result.about += few_values(o)
    return result


def fig7(o: Options) -> Result:
    """Fig. 7: gradient amplitude of every block, V_th = 0.5, alpha = 2."""
    found, result = gradients("fig7", o, 0.5, 2.0)
    decays = {zero: growth(found["Spiking", zero]) for zero in (False, True)}
    result.claims += [
        Claim("Spiking vanishes", decays[False] < 1, per_area(found["Spiking", False])),
        Claim("with zero init more so", decays[True] < decays[False], per_area(found["Spiking", True])),
        *flat(found),
    ]
    return result


def fig8(o: Options) -> Result:
    """Fig. 8: gradient amplitude of every block, V_th = 1, alpha = 3."""
    found, result = gradients("fig8", o, 1.0, 3.0)
    explodes, others = growth(found["Spiking", True]), {name: growth(found[name, False]) for name in ("SEW ADD", "SEW IAND")}
    result.claims += [
        Claim(
            "Spiking explodes",
            explodes > 10,
            f"with zero init by {explodes:.2g} per area, without by {growth(found['Spiking', False]):.2g}",
        ),
        Claim(
            "SEW ADD and IAND much less",
            max(others.values()) < explodes,
            ", ".join(f"{name} {value:.2g}" for name, value in others.items()),
        ),
        *flat(found),
    ]
    return result
