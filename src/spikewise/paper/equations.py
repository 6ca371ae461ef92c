"""Eq. 10, Eq. 15 and the surrogate of A.5, in numbers."""

from typing import Any

import torch

from ..analysis.figures import COLOURS, MARKS, legend_below, log_axis, panels
from ..analysis.theory import gradient_norm_ratio, gradient_norm_ratio_as_printed, slope_product, slopes
from ..kernels.surrogate import SURROGATES
from ..models import build_model
from .options import Options
from .page import Claim, Result

NUM_NEURONS, NUM_TRIALS = 100_000, 20
A5_CURVES = (("atan", 2.0, 1.0), ("atan", 2.0, 0.5), ("scaled_atan", 2.0, 0.5))
RATES = (0.1, 0.3, 0.6)
VTH_ALPHA_PAIRS = ((1.0, 2.0), (0.5, 2.0), (1.0, 3.0))


def eq15(o: Options) -> Result:
    """Eq. 15 corrected: what k identity blocks of the Spiking kind make of a gradient's norm."""
    rows, worst, worst_printed = [], 0.0, 1.0
    rng = torch.Generator().manual_seed(o.seed)
    figure, axes = panels(len(VTH_ALPHA_PAIRS))
    for ax, (v_th, alpha) in zip(axes, VTH_ALPHA_PAIRS, strict=True):
        p, q = slopes(v_th, "atan", alpha)
        for i, rate in enumerate(RATES):
            measured = []
            for k in range(1, 9):
                spikes = (torch.rand(NUM_TRIALS, NUM_NEURONS, generator=rng, dtype=torch.float64) < rate).double()
                upstream = torch.randn(NUM_TRIALS, NUM_NEURONS, generator=rng, dtype=torch.float64)
                passed = upstream * slope_product(spikes, k, p, q)
                measured.append(float((passed.norm(dim=1) / upstream.norm(dim=1)).mean()))
                theory, printed = gradient_norm_ratio(rate, k, p, q), gradient_norm_ratio_as_printed(rate, k, p, q, NUM_NEURONS)
                rows.append([v_th, alpha, rate, k, measured[-1], theory, measured[-1] / theory - 1, printed])
                worst, worst_printed = max(worst, abs(measured[-1] / theory - 1)), max(worst_printed, printed / theory)
            style: dict[str, Any] = {"marker": MARKS[i], "markersize": 7 - 2 * i, "fillstyle": "none", "linestyle": "none"}
            ax.plot(range(1, 9), measured, color=COLOURS[i + 1], label=rf"measured, $\Phi$ = {rate}", **style)
            predicted = [gradient_norm_ratio(rate, k, p, q) for k in range(1, 9)]
            ax.plot(range(1, 9), predicted, "-", color=COLOURS[i + 1], linewidth=0.8)
        ax.set(xlabel="blocks $k$", title=rf"$V_{{th}}$ = {v_th:g}, $\alpha$ = {alpha:g}")
        log_axis(ax)
    axes[0].set_ylabel(r"$\|\partial L/\partial S\| / \|\partial L/\partial O\|$")
    legend_below(figure, axes[0], len(RATES))
    claims = [
        Claim(
            "sqrt(Phi p^2k + (1 - Phi) q^2k) (corrected)",
            worst < 0.01,
            f"within {100 * worst:.2f} % of random spikes and gradients",
        ),
        Claim(
            "sqrt(N Phi p^k + N (1 - Phi) q^k) (as printed)",
            worst_printed < 1.01,
            f"up to {worst_printed:,.0f} times too large, N = {NUM_NEURONS:,}",
        ),
    ]
    text = (
        "Random binary spikes, and gradients independent of them, pass k blocks that are the identity: points, measured; "
        "lines, the corrected equation. At V_th = 0.5 both slopes are the same, so rates make no difference. Printed are "
        "exponents k for 2k, and the norm of a product as the product of norms."
    )
    columns = ["V_th", "alpha", "rate", "k", "measured", "corrected", "difference", "printed"]
    title = "Eq. 15: gradients from firing rates"
    return Result("eq15", title, text, [columns, *rows], claims, {"eq15": figure})


def eq10(o: Options) -> Result:
    """Eq. 10: outputs of ReLU before addition grow with depth; those of the usual block and SEW's spikes, less."""
    kinds = {"ReLU before addition (Eq. 10)": "rba", "ReLU behind the addition (Eq. 6)": "", "SEW ADD": "sew"}
    depths, images = (20, 56, 110), torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(o.seed))
    rows, largest = [], {}
    figure, axes = panels(len(depths))
    for ax, depth in zip(axes, depths, strict=True):
        for number, (kind, prefix) in enumerate(kinds.items()):
            outputs = block_maxima(f"{prefix}_resnet{depth}".removeprefix("_"), images, o.seed)
            rows += [[kind, depth, name, value] for name, value in outputs.items()]
            largest[kind, depth] = list(outputs.values())[-1]
            style: dict[str, Any] = {"color": COLOURS[number + 1], "marker": MARKS[number], "markersize": 4, "linewidth": 1}
            ax.plot(list(outputs.values()), markevery=6, label=kind, **style)
        ax.set(xlabel="block $l$", title=f"{depth} layers")
    axes[0].set_ylabel("largest output")
    legend_below(figure, axes[0], 3)
    grows = [largest["ReLU before addition (Eq. 10)", depth] for depth in depths]
    spikes = largest["SEW ADD", depths[-1]]
    claims = [
        Claim("outputs of Eq. 10 grow with depth", grows == sorted(grows), ", ".join(f"{value:.4g}" for value in grows)),
        Claim("SEW ADD's are integers of at most the blocks of a stage and 1", spikes <= 19, f"{spikes:g} with 110 layers"),
    ]
    text = "The largest value behind each block before training, norms over the batch, of random images from 0 to 1."
    columns = ["network", "layers", "block", "largest output"]
    return Result("eq10", "Eq. 10: ReLU before addition", text, [columns, *rows], claims, {"eq10": figure})


@torch.no_grad()
def block_maxima(model: str, images: torch.Tensor, seed: int) -> dict[str, float]:
    """The largest output of each block of a network with fresh weights."""
    found: dict[str, float] = {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = build_model(model, num_classes=10)
    for name, block in net.blocks.items():
        block.register_forward_hook(lambda _m, _i, out, name=name: found.update({name: float(out.max())}))
    net(images)
    return found


def a5(_: Options) -> Result:
    """A.5: the surrogate whose slope is 1 both where a spike meets the threshold 0.5 and where none does."""
    figure, (ax,) = panels(1)
    u = torch.linspace(-1.5, 1.5, 301, dtype=torch.float64)
    rows = []
    for (name, alpha, v_th), colour, line in zip(A5_CURVES, COLOURS, ("-", "--", "-"), strict=False):
        p, q = slopes(v_th, name, alpha)
        rows.append([name, alpha, v_th, p, q, p**50, q**50])
        label = f"{name.replace('_', ' ')}, $V_{{th}}$ = {v_th:g}"
        ax.plot(u, SURROGATES[name](u, alpha), line, color=colour, linewidth=1.2, label=label)
        ax.plot([1 - v_th, -v_th], [p, q], "o", color=colour, markersize=4)
    ax.set(xlabel="$u = H - V_{th}$", ylabel=r"slope $\sigma'(u)$")
    legend_below(figure, ax, 2)
    p, q = slopes(0.5, "scaled_atan", 2.0)
    claims = [Claim("slopes 1 at both ends (A.5)", abs(p - 1) < 1e-9 and abs(q - 1) < 1e-9, f"p = {p:.12g}, q = {q:.12g}")]
    columns = ["surrogate", "alpha", "V_th", "slope at a spike, p", "slope at none, q", "p^50", "q^50"]
    text = "Slopes where a spike meets the threshold and where none does (dots), and what fifty identity blocks make of them."
    title = "A.5: a surrogate that neither shrinks nor grows gradients"
    return Result("a5", title, text, [columns, *rows], claims, {"a5": figure})
