"""From trained ReLU networks to spiking ones (E18), and what they reach after so many time steps.

Public: `convert_ann`, `balance_thresholds`, `with_thresholds`, the table METHODS, `score_by_steps`,
`calibration_samples`.
"""

from .balance import METHODS, balance_thresholds
from .calibration import calibration_samples
from .convert import convert_ann
from .curve import score_by_steps
from .twin import with_thresholds

__all__ = ["METHODS", "balance_thresholds", "calibration_samples", "convert_ann", "score_by_steps", "with_thresholds"]
