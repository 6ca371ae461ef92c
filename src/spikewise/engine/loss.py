"""The training losses: functions of (logits, labels, label_smoothing, class_weights), by the word of `optim.loss`."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of the logits of time-averaged features, computed in at least float32.

    Shapes:  logits [N, num_classes], labels [N] or shares of the classes [N, num_classes], class_weights [num_classes]
             -> a scalar
    Source:  "Head" in docs/equations.md; the loss of every published run
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = labels if labels.dim() == 1 else labels.to(logits.dtype)
    return torch.nn.functional.cross_entropy(logits, labels, class_weights, label_smoothing=label_smoothing)


def mean_squared_error(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Mean of (logit - target)^2 over samples and classes, the target 1 for the label's class and 0 for others: for networks
    whose outputs are firing rates, such as the vote of `plif_net`.

    Shapes:  as `cross_entropy`; label_smoothing spreads its share of the target over all classes
    Source:  Fang et al., Incorporating Learnable Membrane Time Constant, ICCV 2021
    """
    assert class_weights is None, "the config refuses them"
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    classes = logits.shape[1]
    shares = torch.nn.functional.one_hot(labels, classes) if labels.dim() == 1 else labels
    targets = shares.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / classes
    return torch.nn.functional.mse_loss(logits, targets)


LOSSES: dict[str, Callable[..., Tensor]] = {"cross_entropy": cross_entropy, "mse": mean_squared_error}


def balanced_class_weights(labels: np.ndarray, num_classes: int) -> Tensor:
    """Weights [num_classes] that give every class the same share of the loss: samples / (classes * samples of the class).

    Of a class without samples: 0.
    """
    counts = torch.from_numpy(np.bincount(labels, minlength=num_classes)).float()
    return torch.where(counts > 0, len(labels) / (num_classes * counts.clamp(min=1)), 0.0)
