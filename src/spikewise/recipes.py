"""Named runs: functions that return a whole Config."""

from collections.abc import Callable

from .config import Config, Data, Model, Optim


def digits() -> Config:
    """SEW ResNet-20 on the 1,797 embedded digits (8 x 8 pixels): under a minute on two cores, about 99 %."""
    return Config(
        recipe="digits",
        data=Data(name="digits", warp=0.06),
        model=Model(name="sew_resnet20", T=4, connect="ADD"),
        optim=Optim(
            lr=0.1,
            lr_batch=64,
            batch=64,
            epochs=12,
            warmup_epochs=1,
            weight_decay=5e-4,
            label_smoothing=0.1,
            ema_decay=0.98,
        ),
    )


RECIPES: dict[str, Callable[[], Config]] = {"digits": digits}
