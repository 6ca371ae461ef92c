"""Figures 4 and 11: what the blocks of trained networks fire."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..analysis.figures import COLOUR_OF, COLOURS, MARK_OF, MARKS, legend_below, panels
from ..engine.build import choose_device, load_data
from ..engine.evaluate import load_run
from ..engine.loader import EvalBatches, iterate_batches
from ..models.recorder import Activity, firing_rates
from .arms import FIG4, GESTURE, Arm
from .compare import CHECKED, final
from .options import Options
from .page import Claim, Clock, Result
from .runs import Ran, at_work, configured, published_network, run_arm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCHES, SAMPLES = 16, 8  # of the test split
Rates = dict[str, dict[str, Activity]]  # by network and block


def fig4(o: Options) -> Result:
    """Fig. 4: firing rates of A in SEW ResNet-18, 34 and 50 trained on ImageNet."""

    def claims(rates: Rates) -> list[Claim]:
        most = {name: max(at.branch for at in blocks.values()) for name, blocks in rates.items()}
        last = {name: max(at.branch for at in list(blocks.values())[-2:]) for name, blocks in rates.items()}
        return [
            Claim("rates of A are at most 0.25", max(most.values()) <= 0.25, figures(most)),
            Claim("almost zero in the last two blocks", max(last.values()) < 0.05, figures(last)),
        ]

    return page("fig4", "Fig. 4: firing rates of SEW blocks on ImageNet", FIG4, o, claims, ("branch",))


def fig11(o: Options) -> Result:
    """Fig. 11: firing rates of A and O in the blocks of the 7B networks trained on DVS128 Gesture."""

    def claims(rates: Rates) -> list[Claim]:
        means = {name: sum(at.output for at in blocks.values()) / len(blocks) for name, blocks in rates.items()}
        says = "blocks of SEW AND have the lowest rates, those of SEW IAND higher ones"
        return [Claim(says, min(means, key=means.__getitem__) == "SEW AND", figures(means))]

    title = "Fig. 11: firing rates of 7B networks on DVS128 Gesture"
    return page("fig11", title, GESTURE, o, claims, ("branch", "output"))


def figures(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def page(
    name: str, title: str, arms: tuple[Arm, ...], o: Options, claims: Callable[[Rates], list[Claim]], shown: tuple[str, ...]
) -> Result:
    """Firing rates by block over test samples, of networks that are trained here, or of published weights."""
    clock, rates = Clock(), {}
    runs: list[Ran] = []
    with at_work(arms, o) as inside:
        for arm in arms:
            if o.weights is None:
                runs.append(run_arm(arm, inside))
            rates[arm.name] = rates_of(arm, runs[-1] if runs else None, inside)
    epochs = {ran.arm.name: f"{len(ran.lines)} of {ran.epochs}" for ran in runs}
    commands = {ran.arm.name: ran.command for ran in runs} or {arm.name: f"not trained: {arm.weights}" for arm in arms}
    columns = ["network", "block", "rate of A", "rate of O", "largest O", "epochs", "command"]
    rows: list[list[Any]] = [
        [network, block, at.branch, at.output, at.most, epochs.get(network, "published weights"), commands[network]]
        for network, blocks in rates.items()
        for block, at in blocks.items()
    ]
    about = (
        f"{CHECKED if o.check else ''}Means over {BATCHES} batches of {SAMPLES} test samples. The paper gives its numbers as "
        "curves only. Open triangles: blocks that change the shape."
    )
    told = claims(rates) if final(runs, o) else []
    table = [columns[:-1], *(row[:-1] for row in rows)]
    return Result(name, title, about, [columns, *rows], told, {name: drawn(rates, shown)}, float(clock), table, o.device)


def rates_of(arm: Arm, ran: Ran | None, o: Options) -> dict[str, Activity]:
    """What the blocks of a trained network, or of published weights, fire."""
    where, config = choose_device(o.device), configured(arm, o)
    if ran is None or ran.run is None:
        assert o.weights is not None, "no run: published weights"
        net = published_network(arm, o.weights, config)
    else:
        net = load_run(ran.run, data_root=o.data_root)[0]
    test = EvalBatches(load_data(config, "test"), SAMPLES)
    return firing_rates(net.to(where), iterate_batches(test, range(min(BATCHES, len(test))), where, workers=o.workers or 0))


def drawn(rates: Rates, shown: tuple[str, ...]) -> "Figure":
    """Rates of A, or of A and O, by block."""
    figure, axes = panels(len(shown))
    for ax, what in zip(axes, shown, strict=True):
        for i, (network, blocks) in enumerate(rates.items()):
            colour, mark = COLOUR_OF.get(network, COLOURS[i + 1]), MARK_OF.get(network, MARKS[i])
            style: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 3, "linewidth": 1, "label": network}
            values = [getattr(at, what) for at in blocks.values()]
            ax.plot(range(1, len(values) + 1), values, **style)
            down = [i for i, at in enumerate(blocks.values()) if at.distance is None]
            ax.plot([i + 1 for i in down], [values[i] for i in down], "v", color=colour, markersize=7, fillstyle="none")
        letter = "A" if what == "branch" else "O"
        ax.set(xlabel="block $l$", ylabel=f"firing rate of ${letter}^l$")
        ax.set_ylim(bottom=0)
        ax.locator_params(axis="x", integer=True)
    legend_below(figure, axes[0], 1 + len(shown))
    return figure
