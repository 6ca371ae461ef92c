"""Tables 2 to 5, figures 9 and 10, and CIFAR10-DVS: networks trained by the published recipes."""

from .compare import best_accuracies, claim_decreasing, claim_near_paper, compare_with_paper, with_cited_rows
from .experiments import CIFAR10_DVS, DVS_GESTURE, TAB2, TAB3, TAB5, TEMPORAL_DELETE
from .options import Options
from .page import Claim, Result
from .runs import ExperimentRun


def tab2(o: Options) -> Result:
    """Tab. 2: SEW and Spiking ResNet-18, 34 and 50 on ImageNet."""

    def claims(runs: list[ExperimentRun]) -> list[Claim]:
        best = best_accuracies(runs)
        sew = {name: best[name] for name in (f"SEW ResNet-{depth}" for depth in (50, 34, 18))}
        spiking = {name: best[name] for name in (f"Spiking ResNet-{depth}" for depth in (18, 34, 50))}
        better, worse = "SEW gets better with depth", "Spiking gets worse with depth"
        return [*claim_near_paper(runs), claim_decreasing(better, sew), claim_decreasing(worse, spiking)]

    return compare_with_paper("tab2", "Tab. 2: accuracy on ImageNet", TAB2, o, claims)


def tab3(o: Options) -> Result:
    """Tab. 3: ten networks on ImageNet: SEW and td-BN trained, ReLU converted, converted and trained on.

    With published weights, which SEW ResNets have, the others' rows are the paper's alone.
    """
    title = "Tab. 3: SEW ResNets on ImageNet beside others"
    ours = tuple(experiment for experiment in TAB3 if o.weights is None or experiment.weights)
    result = compare_with_paper("tab3", title, ours, o, claim_near_paper)
    return with_cited_rows(result, tuple(experiment for experiment in TAB3 if experiment not in ours))


def tab4(o: Options) -> Result:
    """Tab. 4 and Fig. 9: five 7B networks on DVS128 Gesture, with the settings of Tab. 6 and 7."""

    def claims(runs: list[ExperimentRun]) -> list[Claim]:
        losses = {run.experiment.name: run.lines[-1]["train_loss"] for run in runs}
        order = ("SEW AND", "Plain", "SEW ADD", "Spiking", "SEW IAND")
        return [
            *claim_near_paper(runs),
            claim_decreasing("accuracy ADD > IAND > Plain > Spiking > AND", best_accuracies(runs)),
            claim_decreasing("train loss AND > Plain > ADD > Spiking > IAND", {name: losses[name] for name in order}),
        ]

    return compare_with_paper("tab4", "Tab. 4 and Fig. 9: accuracy on DVS128 Gesture", DVS_GESTURE, o, claims)


def tab5(o: Options) -> Result:
    """Tab. 5: four networks trained on DVS128 Gesture: 7B-Net, PLIF-Net, td-BN ResNet-17, LIF network."""
    return compare_with_paper("tab5", "Tab. 5: 7B-Net on DVS128 Gesture beside others", TAB5, o, claim_near_paper)


def fig10(o: Options) -> Result:
    """Fig. 10: with and without random temporal delete on DVS128 Gesture."""

    def claims(runs: list[ExperimentRun]) -> list[Claim]:
        claims = []
        for with_rtd, without in zip(runs[::2], runs[1::2], strict=True):
            name, pair = with_rtd.experiment.name.partition(",")[0], [with_rtd, without]
            loss, train = ([run.lines[-1][key] for run in pair] for key in ("train_loss", "train_accuracy"))
            test = list(best_accuracies(pair).values())
            accuracies = f"{100 * train[0]:.2f} and {100 * train[1]:.2f} %"
            claims += [
                Claim(f"{name}: higher train loss with RTD", loss[0] > loss[1], f"{loss[0]:.3g} and {loss[1]:.3g}"),
                Claim(f"{name}: lower train accuracy with RTD", train[0] < train[1], accuracies),
                Claim(f"{name}: higher test accuracy with RTD", test[0] > test[1], f"{test[0]:.2f} and {test[1]:.2f} %"),
            ]
        return claims

    return compare_with_paper("fig10", "Fig. 10: random temporal delete (RTD) on DVS128 Gesture", TEMPORAL_DELETE, o, claims)


def cifar10_dvs(o: Options) -> Result:
    """The published CIFAR10-DVS run: 74.4 % in its best epoch, 72.8 % in its last."""
    return compare_with_paper("cifar10-dvs", "CIFAR10-DVS: the published run", (CIFAR10_DVS,), o, claim_near_paper)
