"""Weights that come with the package: folders of `save_pretrained`, by name, such as fashion-mnist/sew_resnet20."""

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open

FOLDER = Path(__file__).parents[1] / "weights"
WEIGHTS_FILE, CARD = "model.safetensors", "README.md"


class ShippedWeights(NamedTuple):
    """A folder with a weights file and its model card."""

    folder: Path

    @property
    def description(self) -> str:
        """Network and data, as the file's header says, and its size."""
        file = self.folder / WEIGHTS_FILE
        with safe_open(file, "pt") as opened:
            header = json.loads(opened.metadata()["spikewise"])
        model, data = header["model"], header.get("input", {}).get("data") or "data that it does not tell"
        return f"{model['name']} {model['connect']} on {data}, {file.stat().st_size / 1e6:.1f} MB; its card: {self.folder}"


def shipped_weights() -> dict[str, ShippedWeights]:
    """Name -> weights, of every network that comes with the package."""
    files = sorted(FOLDER.glob(f"**/{WEIGHTS_FILE}"))
    return {file.parent.relative_to(FOLDER).as_posix(): ShippedWeights(file.parent) for file in files}
