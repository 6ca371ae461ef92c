"""The networks of the paper's tables: recipe, accuracy, published log and weights of each.

Accuracies are those of the best epoch, chosen on the test split, in percent.
"""

from typing import Any, NamedTuple

from ..data import DATASETS
from ..recipes import RECIPES


class Conversion(NamedTuple):
    """How a trained ReLU network becomes a spiking one: options of `convert_ann`.

    samples:  of the training split, on which thresholds are balanced
    """

    method: str
    soft_reset: bool = True
    samples: int = 128

    @property
    def name(self) -> str:
        return self.method + ("" if self.soft_reset else "-hard")

    @property
    def command(self) -> str:
        reset = "" if self.soft_reset else " --reset hard"
        return f"spikewise convert-ann RUN OUT --method {self.method}{reset} --samples {self.samples}"


class Experiment(NamedTuple):
    """A network of the paper, and how it is trained, or converted.

    name:            as in the paper
    recipe:          in RECIPES; data_overrides, the fields of its data that differ
    paper_top1:      the paper's accuracy, None if it gives none; paper_top5, within the first five
    log, weights:    names of the published log and file of weights, if there are any
    T:               time steps of a converted network; None: the recipe's
    conversion:      of a ReLU network that `recipe` trains; then, the recipe that trains the converted network on
    """

    name: str
    recipe: str
    paper_top1: float | None = None
    log: str | None = None
    paper_top5: float | None = None
    weights: str | None = None
    data_overrides: dict[str, Any] = {}  # noqa: RUF012  # never changed
    T: int | None = None
    conversion: Conversion | None = None
    then: str = ""

    @property
    def steps(self) -> int:
        """Time steps, as the paper's tables give them."""
        config = RECIPES[self.recipe]()
        return self.T or (config.data.num_frames if DATASETS[config.data.name].events else config.model.T)

    @property
    def run_name(self) -> str:
        """Name of its run folder; figures and tables share the runs that they have in common."""
        overrides = (f"{key}-{value}" for key, value in self.data_overrides.items())
        return "-".join([self.recipe.replace("/", "-"), *overrides])


PAPER_IMAGENET = {  # Tab. 2 and 3
    ("sew", 18): (63.18, 84.53),
    ("sew", 34): (67.04, 87.25),
    ("sew", 50): (67.78, 87.52),
    ("sew", 101): (68.76, None),
    ("spiking", 18): (62.32, 84.05),
    ("spiking", 34): (61.86, 83.69),
    ("spiking", 50): (57.66, 80.43),
}


def imagenet(kind: str, depth: int) -> Experiment:
    top1, top5 = PAPER_IMAGENET[kind, depth]
    title = f"{'SEW' if kind == 'sew' else 'Spiking'} ResNet-{depth}"
    file = f"{'sew' if kind == 'sew' else 'spiking_resnet_'}{depth}_checkpoint_319.pth"
    return Experiment(title, f"imagenet/{kind}-resnet{depth}", top1, f"{kind}_resnet{depth}", top5, file)


TAB2 = tuple(imagenet(kind, depth) for depth in (18, 34, 50) for kind in ("sew", "spiking"))
TAB3 = (
    imagenet("sew", 34),
    Experiment("Spiking ResNet-34 (large) with td-BN", "imagenet/tdbn-resnet34-large", 67.05),
    Experiment("Spiking ResNet-34 with td-BN", "imagenet/tdbn-resnet34", 63.72),
    Experiment("ResNet-34 converted (Han et al.)", "imagenet/resnet34", 69.89, T=4096, conversion=Conversion("max")),
    Experiment(
        "ResNet-34 converted (Sengupta et al.)",
        "imagenet/resnet34",
        65.47,
        T=2000,
        conversion=Conversion("spike-norm", soft_reset=False, samples=8),
    ),
    Experiment(
        "ResNet-34 converted and trained (Rathi et al.)",
        "imagenet/resnet34",
        61.48,
        T=250,
        conversion=Conversion("spike-norm", samples=8),
        then="imagenet/hybrid-resnet34",
    ),
    imagenet("sew", 50),
    Experiment("Spiking ResNet-50 with td-BN", "imagenet/tdbn-resnet50", 64.88),
    Experiment("ResNet-50 converted (Hu et al.)", "imagenet/resnet50", 72.75, T=350, conversion=Conversion("percentile")),
    imagenet("sew", 101),
)
FIG4 = tuple(imagenet("sew", depth) for depth in (18, 34, 50))
DVS_GESTURE = (  # Tab. 4, with the learning rates of Tab. 7
    Experiment("SEW ADD", "dvs-gesture/sew-add-zero-init", 97.92, "dvsgesture-7b-sew-add"),  # the log's name says zero init
    Experiment("SEW IAND", "dvs-gesture/sew-iand", 95.49),
    Experiment("Plain", "dvs-gesture/plain", 91.67),
    Experiment("Spiking", "dvs-gesture/spiking", 90.97),
    Experiment("SEW AND", "dvs-gesture/sew-and", 70.49),
)
TEMPORAL_DELETE = tuple(  # Fig. 10: random temporal delete, and none
    experiment
    for with_delete in (DVS_GESTURE[0], DVS_GESTURE[2], DVS_GESTURE[3])
    for experiment in (
        with_delete._replace(name=f"{with_delete.name}, RTD"),
        Experiment(f"{with_delete.name}, no RTD", with_delete.recipe, data_overrides={"temporal_delete": 0}),
    )
)
CIFAR10_DVS = Experiment("SEW ADD", "cifar10-dvs/sew-add", 74.4, "cifar10dvs-sew-add")  # in the paper's published version
TAB5 = (
    DVS_GESTURE[0],
    Experiment("PLIF-Net, 1.70 M parameters", "dvs-gesture/plif-net", 97.57),
    Experiment("Spiking ResNet17 with td-BN, 11.18 M", "dvs-gesture/tdbn-resnet17", 96.87),
    Experiment("LIF network, 23.23 M in the paper, 2.32 M by its layers", "dvs-gesture/lif-net", 93.40),
)
