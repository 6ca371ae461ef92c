"""Tables 2 to 5, figures 9 and 10, and the CIFAR10-DVS run: networks trained by the published recipes, on the user's data."""

from .arms import CIFAR10_DVS, CITED_IN_TAB3, CITED_IN_TAB5, DELETE, GESTURE, TAB2, TAB3
from .compare import beside, best_of, near_paper, ordered, table
from .options import Options
from .page import Claim, Result
from .runs import Ran


def tab2(o: Options) -> Result:
    """Tab. 2: SEW and Spiking ResNet-18, 34 and 50 on ImageNet."""

    def claims(runs: list[Ran]) -> list[Claim]:
        best = best_of(runs)
        sew = {name: best[name] for name in (f"SEW ResNet-{depth}" for depth in (50, 34, 18))}
        spiking = {name: best[name] for name in (f"Spiking ResNet-{depth}" for depth in (18, 34, 50))}
        better, worse = "SEW gets better with depth", "Spiking gets worse with depth"
        return [*near_paper(runs), ordered(better, sew), ordered(worse, spiking)]

    return table("tab2", "Tab. 2: accuracy on ImageNet", TAB2, o, claims)


def tab3(o: Options) -> Result:
    """Tab. 3: SEW ResNet-34, 50 and 101 on ImageNet beside what others had reached."""
    return beside(table("tab3", "Tab. 3: SEW ResNets on ImageNet beside others", TAB3, o, near_paper), CITED_IN_TAB3)


def tab4(o: Options) -> Result:
    """Tab. 4 and Fig. 9: five 7B networks on DVS128 Gesture, with the settings of Tab. 6 and 7."""

    def claims(runs: list[Ran]) -> list[Claim]:
        losses = {ran.arm.name: ran.lines[-1]["train_loss"] for ran in runs}
        rising = ("SEW AND", "Plain", "SEW ADD", "Spiking", "SEW IAND")
        return [
            *near_paper(runs),
            ordered("accuracy ADD > IAND > Plain > Spiking > AND", best_of(runs)),
            ordered("train loss AND > Plain > ADD > Spiking > IAND", {name: losses[name] for name in rising}),
        ]

    return table("tab4", "Tab. 4 and Fig. 9: accuracy on DVS128 Gesture", GESTURE, o, claims)


def tab5(o: Options) -> Result:
    """Tab. 5: the 7B-Net on DVS128 Gesture beside what others had reached."""
    title = "Tab. 5: 7B-Net on DVS128 Gesture beside others"
    return beside(table("tab5", title, GESTURE[:1], o, near_paper), CITED_IN_TAB5)


def fig10(o: Options) -> Result:
    """Fig. 10: with and without random temporal delete on DVS128 Gesture."""

    def claims(runs: list[Ran]) -> list[Claim]:
        found = []
        for with_delete, without in zip(runs[::2], runs[1::2], strict=True):
            pair, name = (with_delete, without), with_delete.arm.name.partition(",")[0]
            loss, accuracy = ([ran.lines[-1][key] for ran in pair] for key in ("train_loss", "train_accuracy"))
            test = list(best_of([with_delete, without]).values())
            found += [
                Claim(f"{name}: higher train loss with RTD", loss[0] > loss[1], f"{loss[0]:.3g} and {loss[1]:.3g}"),
                Claim(
                    f"{name}: lower train accuracy with RTD",
                    accuracy[0] < accuracy[1],
                    f"{100 * accuracy[0]:.2f} and {100 * accuracy[1]:.2f} %",
                ),
                Claim(f"{name}: higher test accuracy with RTD", test[0] > test[1], f"{test[0]:.2f} and {test[1]:.2f} %"),
            ]
        return found

    return table("fig10", "Fig. 10: random temporal delete (RTD) on DVS128 Gesture", DELETE, o, claims)


def cifar10_dvs(o: Options) -> Result:
    """The published CIFAR10-DVS run: 74.4 % in its best epoch, 72.8 % in its last."""
    return table("cifar10-dvs", "CIFAR10-DVS: the published run", (CIFAR10_DVS,), o, near_paper)
