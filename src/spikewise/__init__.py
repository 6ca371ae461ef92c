"""spikewise: train, understand and deploy very deep residual spiking networks.

The public names are imported when they are first used, so that `import spikewise` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import aliases
from .version import __version__

aliases.install()

if TYPE_CHECKING:
    from .config import Config
    from .conversion import convert_ann
    from .data import DATASETS
    from .data.input_spec import InputSpec
    from .engine.evaluate import evaluate
    from .engine.loop import resume, train
    from .engine.predict import Predictor
    from .kernels import BACKENDS, SURROGATES
    from .models import CONNECT, MODELS, StreamState, build_model
    from .models.weights import load_pretrained, save_pretrained
    from .neurons import NEURONS
    from .recipes import RECIPES

_HOME = {
    "BACKENDS": ".kernels",
    "CONNECT": ".models",
    "DATASETS": ".data",
    "InputSpec": ".data.input_spec",
    "resume": ".engine.loop",
    "Config": ".config",
    "MODELS": ".models",
    "NEURONS": ".neurons",
    "Predictor": ".engine.predict",
    "RECIPES": ".recipes",
    "SURROGATES": ".kernels",
    "StreamState": ".models",
    "build_model": ".models",
    "convert_ann": ".conversion",
    "evaluate": ".engine.evaluate",
    "load_pretrained": ".models.weights",
    "save_pretrained": ".models.weights",
    "train": ".engine.loop",
}
__all__ = [
    "BACKENDS",
    "CONNECT",
    "DATASETS",
    "MODELS",
    "NEURONS",
    "RECIPES",
    "SURROGATES",
    "Config",
    "InputSpec",
    "Predictor",
    "StreamState",
    "__version__",
    "build_model",
    "convert_ann",
    "evaluate",
    "load_pretrained",
    "resume",
    "save_pretrained",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'spikewise' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return list(__all__)
