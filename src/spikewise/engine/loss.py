"""The training loss."""

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of the logits of time-averaged features, computed in at least float32.

    Shapes:  logits [N, num_classes], labels [N] or shares of the classes [N, num_classes] -> a scalar
    Source:  "Head" in docs/equations.md; the loss of every published run
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = labels if labels.dim() == 1 else labels.to(logits.dtype)
    return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
