"""The curves of a run, for TensorBoard."""

from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from .. import disk
from .run.folder import METRICS, PROBE, TENSORBOARD, read_lines


class TensorBoard(SummaryWriter):
    """TensorBoard's file of a run, rewritten from metrics.jsonl and probe.jsonl at every start: no point appears twice."""

    CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy", "learning_rate")

    def __init__(self, run: Path):
        folder = run / TENSORBOARD
        disk.remove_tree(folder)
        super().__init__(str(folder))
        for line in read_lines(run / METRICS):
            self.add_epoch(line)
        for record in read_lines(run / PROBE):
            self.add_probe(record)

    def add_epoch(self, line: dict[str, Any]) -> None:
        for name in filter(line.__contains__, self.CURVES):
            split, _, quantity = name.partition("_")
            tag = f"{split}/{quantity}" if split in ("train", "val", "test") else name
            self.add_scalar(tag, line[name], line["epoch"])

    def add_probe(self, record: dict[str, Any]) -> None:
        for name, block in record["blocks"].items():
            for quantity, value in block.items():
                if value is not None:
                    self.add_scalar(f"{quantity}/{name}", value, record["step"])
        for name, tau in record["tau"].items():
            self.add_scalar(f"tau/{name}", tau, record["step"])
