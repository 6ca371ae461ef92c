"""Threshold-dependent batch norm, td-BN (E11)."""

from torch import Tensor, nn
from torch.nn.functional import batch_norm


class ThresholdNorm2d(nn.BatchNorm2d):
    """Batch norm whose normalised value is multiplied by `scale` before weight and bias (E11).

    Shapes:  [N, C, H, W] -> [N, C, H, W]
    scale:   alpha v_th, above 0: alpha is 1 where the current goes into neurons alone, 1 / sqrt(2) where two are added
    Source:  Zheng, Wu, Deng, Hu, Li, Going Deeper With Directly-Trained Larger Spiking Neural Networks, 2021
             (arXiv 2011.05280), as used in Fang et al. 2021, Tab. 3 and 5
    """

    def __init__(self, num_features: int, scale: float, eps: float = 1e-5, momentum: float | None = 0.1):
        super().__init__(num_features, eps, momentum)
        if not scale > 0:
            raise ValueError(f"scale={scale!r}; use a number above 0, the threshold or the threshold / sqrt(2)")
        self.scale = float(scale)

    @property
    def scaled_weight(self) -> Tensor:
        """By which the normalised value is multiplied: the weight of an ordinary batch norm that computes the same."""
        return self.weight * self.scale

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        assert self.num_batches_tracked is not None, "as built"
        if self.training:
            self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        estimates = self.running_mean, self.running_var
        return batch_norm(input, *estimates, self.scaled_weight, self.bias, self.training, momentum, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale:g}"
