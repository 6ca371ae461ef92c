"""The networks of the paper's tables: recipe, accuracy, published log and weights of each. Accuracies are those of the best
epoch, chosen on the test split, in percent.
"""

from typing import Any, NamedTuple


class Arm(NamedTuple):
    """A run of an experiment.

    name:     as in the paper
    recipe:   in RECIPES; `changes` of its data
    paper:    its accuracy; None: it has none. paper5: the right class within the first five
    log:      name of the published log, if there is one
    weights:  name of the published file of weights, if there is one
    """

    name: str
    recipe: str
    paper: float | None = None
    log: str | None = None
    paper5: float | None = None
    weights: str | None = None
    changes: dict[str, Any] = {}  # noqa: RUF012  # never changed

    @property
    def folder(self) -> str:
        """Of its run; experiments share the runs that they have in common."""
        return "-".join([self.recipe.replace("/", "-"), *(f"{key}-{value}" for key, value in self.changes.items())])


class Cited(NamedTuple):
    """A network of others, as the paper cites it."""

    name: str
    accuracy: float
    T: int


PAPER_IMAGENET = {  # Tab. 2 and 3
    ("sew", 18): (63.18, 84.53),
    ("sew", 34): (67.04, 87.25),
    ("sew", 50): (67.78, 87.52),
    ("sew", 101): (68.76, None),
    ("spiking", 18): (62.32, 84.05),
    ("spiking", 34): (61.86, 83.69),
    ("spiking", 50): (57.66, 80.43),
}


def imagenet(kind: str, depth: int) -> Arm:
    paper, paper5 = PAPER_IMAGENET[kind, depth]
    title = f"{'SEW' if kind == 'sew' else 'Spiking'} ResNet-{depth}"
    file = f"{'sew' if kind == 'sew' else 'spiking_resnet_'}{depth}_checkpoint_319.pth"
    return Arm(title, f"imagenet/{kind}-resnet{depth}", paper, f"{kind}_resnet{depth}", paper5, file)


TAB2 = tuple(imagenet(kind, depth) for depth in (18, 34, 50) for kind in ("sew", "spiking"))
TAB3 = tuple(imagenet("sew", depth) for depth in (34, 50, 101))
FIG4 = tuple(imagenet("sew", depth) for depth in (18, 34, 50))
GESTURE = (  # Tab. 4, with the learning rates of Tab. 7
    Arm("SEW ADD", "dvs-gesture/sew-add-zero-init", 97.92, "dvsgesture-7b-sew-add"),  # the log's name says zero init
    Arm("SEW IAND", "dvs-gesture/sew-iand", 95.49),
    Arm("Plain", "dvs-gesture/plain", 91.67),
    Arm("Spiking", "dvs-gesture/spiking", 90.97),
    Arm("SEW AND", "dvs-gesture/sew-and", 70.49),
)
DELETE = tuple(  # Fig. 10: random temporal delete, and none
    arm
    for with_delete in (GESTURE[0], GESTURE[2], GESTURE[3])
    for arm in (
        with_delete._replace(name=f"{with_delete.name}, RTD"),
        Arm(f"{with_delete.name}, no RTD", with_delete.recipe, changes={"temporal_delete": 0}),
    )
)
CIFAR10_DVS = Arm("SEW ADD", "cifar10-dvs/sew-add", 74.4, "cifar10dvs-sew-add")  # in the paper's published version
CITED_IN_TAB3 = (
    Cited("Spiking ResNet-34 (large) with td-BN", 67.05, 6),
    Cited("Spiking ResNet-34 with td-BN", 63.72, 6),
    Cited("Spiking ResNet-34, converted (Han et al.)", 69.89, 4096),
    Cited("Spiking ResNet-34, converted (Sengupta et al.)", 65.47, 2000),
    Cited("Spiking ResNet-34, converted and trained", 61.48, 250),
    Cited("Spiking ResNet-50 with td-BN", 64.88, 6),
    Cited("Spiking ResNet-50, converted", 72.75, 350),
)
CITED_IN_TAB5 = (
    Cited("PLIF network of 1.70 M parameters", 97.57, 20),
    Cited("Spiking ResNet17 with td-BN, 11.18 M", 96.87, 40),
    Cited("LIF network, 23.23 M parameters in the paper, 2.32 M by its layers", 93.40, 60),
)
