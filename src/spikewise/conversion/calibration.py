"""The training samples on which thresholds are balanced."""

import torch
from torch import Tensor

from ..config import Config
from ..data.subset import draw_samples
from ..engine.build import load_run_data


def calibration_samples(config: Config, count: int) -> Tensor:
    """`count` samples of what a run learns from, or all if there are fewer, without augmentation: a function of its seed.

    Shapes:  -> [N, C, H, W]
    Raises:  ValueError for recordings, which are no still images; what `load_run_data` raises
    """
    data = load_run_data(config, "train")
    chosen = draw_samples(data, min(count, len(data.labels)), config.seed, "calibration")
    samples = [torch.from_numpy(chosen.sample(index)) for index in range(len(chosen.labels))]
    if samples[0].dim() != 3:
        raise ValueError(f"{config.data.name} holds recordings; networks of still images are converted")
    return torch.stack(samples)
