"""Named runs: functions that return a whole Config.

The paper's recipes hold the published hyper-parameters (A.1, Tab. 6 and 7, and the published logs): SGD with momentum 0.9, no
weight decay, no warm-up, a schedule that moves once an epoch, training in float16, evaluation in float32.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from .config import Config, Data, Model, Optim, Retention


def digits() -> Config:
    """SEW ResNet-20 on the 1,797 embedded digits (8 x 8 pixels): under a minute on two cores."""
    return Config(
        recipe="digits",
        data=Data(name="digits", affine=0.06),
        model=Model(name="sew_resnet20", T=4, connect="ADD"),
        optim=Optim(
            lr=0.1,
            lr_batch=64,
            batch=64,
            epochs=12,
            warmup_epochs=0.5,
            weight_decay=5e-4,
            label_smoothing=0.1,
            ema_decay=0.98,
        ),
    )


def digits_events() -> Config:
    """7B-style SEW network with 4 blocks on the embedded digits before a simulated event camera, within two minutes.

    With SGD at 0.1, one seed of three learned nothing.
    """
    return Config(
        recipe="digits-events",
        data=Data(name="digits-events", num_frames=4, shift=2),
        model=Model(name="sew_7b", num_blocks=4, connect="ADD"),
        optim=Optim(
            optimizer="adamw",
            lr=0.003,
            lr_batch=16,
            batch=16,
            epochs=10,
            warmup_epochs=0.5,
            label_smoothing=0.1,
            ema_decay=0.98,
        ),
    )


def fashion_mnist() -> Config:
    """SEW ResNet-20 on Fashion-MNIST, T = 2, bfloat16, 5 epochs: what a laptop does in half an hour."""
    return Config(
        recipe="fashion-mnist",
        data=Data(name="fashion-mnist", flip=True),
        model=Model(name="sew_resnet20", T=2, connect="ADD"),
        optim=Optim(
            lr=0.1,
            lr_batch=64,
            batch=64,
            epochs=5,
            warmup_epochs=0.5,
            weight_decay=1e-4,
            precision="bfloat16",
            ema_decay=0.999,
        ),
    )


def nmnist() -> Config:
    """7B-style SEW network with 5 blocks on N-MNIST, 10 frames by event count."""
    return Config(
        recipe="nmnist",
        data=Data(name="nmnist", num_frames=10, shift=2),
        model=Model(name="sew_7b", num_blocks=5, connect="ADD"),
        optim=Optim(lr=0.05, lr_batch=16, batch=16, epochs=20, warmup_epochs=1, label_smoothing=0.1, ema_decay=0.99),
    )


def cifar10() -> Config:
    """SEW ResNet-20 on CIFAR-10, bfloat16, 200 epochs."""
    return Config(
        recipe="cifar10",
        data=Data(name="cifar10", shift=4, flip=True),
        model=Model(name="sew_resnet20", T=4, connect="ADD"),
        optim=Optim(lr=0.1, lr_batch=128, batch=128, epochs=200, warmup_epochs=2, weight_decay=5e-4, precision="bfloat16"),
        retention=Retention(every_epochs=50),
    )


def degradation() -> Config:
    """A cell of the grid of `reproduce degradation-cifar10`: half width, 12,000 images, 8 epochs; other cells are options."""
    return Config(
        recipe="degradation",
        data=Data(name="cifar10", shift=4, flip=True, train_samples=12_000, test_samples=2_000),
        model=Model(name="sew_resnet20", T=4, width=0.5),
        optim=Optim(lr=0.1, lr_batch=64, batch=64, epochs=8, warmup_epochs=0.5, weight_decay=1e-4),
    )


def images() -> Config:
    """SEW ResNet-18 on a folder of photographs of one's own, train/CLASS and val/CLASS, from fresh weights."""
    return Config(
        recipe="images",
        data=Data(name="image-folder", flip=True),
        model=Model(name="sew_resnet18", T=4, connect="ADD"),
        optim=Optim(
            lr=0.1,
            lr_batch=256,
            batch=32,
            epochs=90,
            warmup_epochs=0.5,
            nesterov=True,
            weight_decay=1e-4,
            label_smoothing=0.1,
            precision="auto",
        ),
    )


def images_finetune() -> Config:
    """A few epochs on photographs of one's own, from trained weights (--weights): small steps, large crops."""
    return Config(
        recipe="images/finetune",
        data=Data(name="image-folder", flip=True, crop_scale=(0.5, 1.0)),
        optim=Optim(
            lr=0.01,
            lr_batch=32,
            batch=32,
            epochs=10,
            warmup_epochs=0.5,
            nesterov=True,
            weight_decay=1e-4,
            clip_grad_norm=5.0,
            head_lr=10.0,
            label_smoothing=0.1,
            precision="auto",
        ),
    )


def events() -> Config:
    """7B-style SEW network with 6 blocks on a folder of event recordings of one's own, as `spikewise events cut` writes it.

    Any sensor is binned onto 64 x 64 pixels; of a pixel that fires by itself no more than 8 events count per frame. On 128 x
    128 with 7 blocks a step takes four times as long.
    """
    return Config(
        recipe="events",
        data=Data(
            name="event-folder",
            num_frames=8,
            size=64,
            max_count=8,
            validation=0.1,
            sampling="balanced",  # how long a class was recorded says little of how often it will be met
            shift=6,
            rotate=10.0,
            polarity_flip=True,
            event_drop=0.1,
        ),
        model=Model(name="sew_7b", num_blocks=6, connect="ADD"),
        optim=Optim(
            optimizer="adamw",
            lr=0.003,
            lr_batch=16,
            batch=16,
            epochs=30,
            warmup_epochs=1,
            weight_decay=0.01,
            clip_grad_norm=5.0,
            label_smoothing=0.1,
            ema_decay=0.99,
            precision="auto",
        ),
    )


def imagenet(kind: str, depth: int) -> Config:
    """The published ImageNet run: T = 4, 320 epochs, 0.1 per 256 images, cosine; Spiking ResNets start from zero init."""
    return Config(
        recipe=f"imagenet/{kind}-resnet{depth}",
        data=Data(name="imagenet", flip=True),
        model=Model(name=f"{kind}_resnet{depth}", T=4, zero_init=kind == "spiking"),
        optim=Optim(
            lr=0.1, lr_batch=256, batch=256, epochs=320, schedule="cosine", schedule_every="epoch", precision="float16"
        ),
        retention=Retention(every_epochs=64),
    )


TDBN_NEURON: dict[str, Any] = {
    "neuron": "LIF",
    "tau": 4 / 3,
    "decay_input": False,
    "surrogate": "rectangular",
    "alpha": 0.5,
}  # as in E10


def imagenet_relu(depth: int) -> Config:
    """A ReLU ResNet to be converted (E18): average pooling in the stem, which spikes can follow; the rest as the SEW runs."""
    config = imagenet("sew", depth)
    model = Model(name=f"resnet{depth}", pool="avg")
    return dataclasses.replace(config, recipe=f"imagenet/resnet{depth}", model=model)


def imagenet_hybrid(depth: int, steps: int) -> Config:
    """A converted ResNet trained on by spike times (E19), T steps, 20 epochs: begin with what convert-ann wrote (--weights)."""
    return Config(
        recipe=f"imagenet/hybrid-resnet{depth}",
        data=Data(name="imagenet", flip=True),
        model=Model(name=f"converted_resnet{depth}", T=steps, neuron="STDB", v_reset=None, pool="avg"),
        optim=Optim(optimizer="adam", lr=1e-4, lr_batch=32, batch=32, epochs=20, precision="float16"),
    )


def imagenet_tdbn(depth: int, *, large: bool = False) -> Config:
    """A td-BN ResNet on ImageNet, T = 6: norm and neuron as published, the schedule that of the SEW runs."""
    name = f"tdbn_resnet{depth}" + ("_large" if large else "")
    model = Model(name=name, T=6, **TDBN_NEURON)
    return dataclasses.replace(imagenet("sew", depth), recipe=f"imagenet/{name.replace('_', '-')}", model=model)


DVS_GESTURE_LR = {"sew-add": 0.001, "sew-and": 0.03, "sew-iand": 0.063, "spiking": 0.1, "plain": 0.005}  # Tab. 7


def dvs_gesture(variant: str, *, zero_init: bool = False) -> Config:
    """The published DVS Gesture run: 7B-Net, T = 16, random temporal delete to 12, 192 epochs, rate / 10 every 64."""
    kind, _, connect = variant.partition("-")
    return Config(
        recipe=f"dvs-gesture/{variant}" + ("-zero-init" if zero_init else ""),
        data=Data(name="dvs-gesture", num_frames=16, temporal_delete=12),
        model=Model(name=f"{kind}_7b", T=16, connect=connect.upper() or "ADD", zero_init=zero_init),
        optim=Optim(
            lr=DVS_GESTURE_LR[variant],
            lr_batch=16,
            batch=16,
            epochs=192,
            schedule="step",
            step_epochs=64,
            step_gamma=0.1,
            precision="float16",
        ),
    )


def plif_net() -> Config:
    """PLIF-Net on DVS Gesture (paper Tab. 5): T = 20, squared error of the vote's rates, Adam at 0.001, 1,024 epochs.

    The source's learning rate falls and rises every 64 epochs; here it falls once.
    """
    return Config(
        recipe="dvs-gesture/plif-net",
        data=Data(name="dvs-gesture", num_frames=20),
        model=Model(name="plif_net", T=20),
        optim=Optim(optimizer="adam", lr=0.001, lr_batch=16, batch=16, epochs=1024, loss="mse", precision="float16"),
    )


def dvs_gesture_other(name: str, model: str, frames: int, **neuron: Any) -> Config:
    """Another network of paper Tab. 5 on DVS Gesture, with its T; how it is trained is ours, the source is not at hand."""
    return Config(
        recipe=f"dvs-gesture/{name}",
        data=Data(name="dvs-gesture", num_frames=frames),
        model=Model(name=model, T=frames, **neuron),
        optim=Optim(optimizer="adam", lr=0.001, lr_batch=16, batch=16, epochs=192, precision="float16"),
    )


def cifar10_dvs() -> Config:
    """The published CIFAR10-DVS run: the wide network, T = 16, 64 epochs, learning rate 0.01, cosine."""
    return Config(
        recipe="cifar10-dvs/sew-add",
        data=Data(name="cifar10-dvs", num_frames=16),
        model=Model(name="sew_wide7b", T=16, connect="ADD"),
        optim=Optim(lr=0.01, lr_batch=16, batch=16, epochs=64, schedule="cosine", schedule_every="epoch", precision="float16"),
    )


RECIPES: dict[str, Callable[[], Config]] = {
    "digits": digits,
    "digits-events": digits_events,
    "fashion-mnist": fashion_mnist,
    "nmnist": nmnist,
    "cifar10": cifar10,
    "degradation": degradation,
    "images": images,
    "images/finetune": images_finetune,
    "events": events,
    "imagenet/sew-resnet18": partial(imagenet, "sew", 18),
    "imagenet/sew-resnet34": partial(imagenet, "sew", 34),
    "imagenet/sew-resnet50": partial(imagenet, "sew", 50),
    "imagenet/sew-resnet101": partial(imagenet, "sew", 101),
    "imagenet/sew-resnet152": partial(imagenet, "sew", 152),
    "imagenet/spiking-resnet18": partial(imagenet, "spiking", 18),
    "imagenet/spiking-resnet34": partial(imagenet, "spiking", 34),
    "imagenet/spiking-resnet50": partial(imagenet, "spiking", 50),
    "imagenet/spiking-resnet101": partial(imagenet, "spiking", 101),
    "imagenet/spiking-resnet152": partial(imagenet, "spiking", 152),
    "imagenet/tdbn-resnet34": partial(imagenet_tdbn, 34),
    "imagenet/tdbn-resnet34-large": partial(imagenet_tdbn, 34, large=True),
    "imagenet/tdbn-resnet50": partial(imagenet_tdbn, 50),
    "imagenet/resnet34": partial(imagenet_relu, 34),
    "imagenet/resnet50": partial(imagenet_relu, 50),
    "imagenet/hybrid-resnet34": partial(imagenet_hybrid, 34, 250),
    "dvs-gesture/sew-add": partial(dvs_gesture, "sew-add"),
    "dvs-gesture/sew-add-zero-init": partial(dvs_gesture, "sew-add", zero_init=True),
    "dvs-gesture/sew-and": partial(dvs_gesture, "sew-and"),
    "dvs-gesture/sew-iand": partial(dvs_gesture, "sew-iand"),
    "dvs-gesture/plain": partial(dvs_gesture, "plain"),
    "dvs-gesture/spiking": partial(dvs_gesture, "spiking"),
    "dvs-gesture/plif-net": plif_net,
    "dvs-gesture/tdbn-resnet17": partial(dvs_gesture_other, "tdbn-resnet17", "tdbn_resnet17", 40, **TDBN_NEURON),
    "dvs-gesture/lif-net": partial(dvs_gesture_other, "lif-net", "lif_net", 60),
    "cifar10-dvs/sew-add": cifar10_dvs,
}
