"""Files that go from one environment to another: written by one PyTorch, read by another.

    OLD/bin/python scripts/exchange.py write FOLDER
    NEW/bin/python scripts/exchange.py read FOLDER

Weights by `save_pretrained` and by `torch.save`, a stream's state, and a run stopped in the middle, which the reader resumes.
Numbers are computed in float64 on the reference, so that they must agree whatever the processor is.
"""

import contextlib
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch

import spikewise as sw
from spikewise.config import Config, Data, Model, Optim
from spikewise.models import StreamState

FRAMES = (torch.arange(3 * 2 * 2 * 16 * 16, dtype=torch.float64) * 7919 % 31 / 8).reshape(3, 2, 2, 16, 16)  # [T, N, C, H, W]
CONFIG = Config(
    recipe="exchange",
    data=Data(name="digits"),
    model=Model(name="sew_7b", num_blocks=2, T=2),
    optim=Optim(optimizer="adam", lr=0.01, batch=128, epochs=2, ema_decay=0.9),
)


def write(folder: Path) -> None:
    """Write one file of each kind into `folder`, and what a reader must compute from them."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    net = sw.build_model("sew_7b", num_classes=5, num_blocks=2, T=3).double()
    net.train()(FRAMES)  # moves the running statistics
    net.eval()
    sw.save_pretrained(net, folder)
    torch.save({"net": net.state_dict()}, folder / "weights.pth")
    state = None
    with torch.no_grad():
        for frame in FRAMES[:2]:
            _, state = net.step(frame, state)
        torch.save(state, folder / "stream.pt")
        torch.save(net(FRAMES), folder / "logits.pt")
    sw.train(CONFIG, folder / "run", device="cpu", workers=0, quiet=True, stop_epoch=1)


@torch.no_grad()
def read(folder: Path) -> None:
    """Read what `write` left, and compare.

    Raises:  AssertionError for a number that differs
    """
    logits = torch.load(folder / "logits.pt")
    net = sw.load_pretrained(folder)
    torch.testing.assert_close(net(FRAMES), logits)
    again = sw.build_model("sew_7b", num_classes=5, num_blocks=2, T=3).double().eval()
    again.load_state_dict(torch.load(folder / "weights.pth")["net"])
    torch.testing.assert_close(again(FRAMES), logits)
    state = torch.load(folder / "stream.pt")
    assert isinstance(state, StreamState)
    torch.testing.assert_close(net.step(FRAMES[2], state)[0], logits)
    with tempfile.TemporaryDirectory() as place, torch.enable_grad():
        resume(Path(shutil.copytree(folder / "run", Path(place, "run"), symlinks=True)))


def resume(run: Path) -> None:
    """Evaluate a run as it came, then train it to its end; another PyTorch is said to change its bits."""
    score = sw.evaluate(run, device="cpu")
    (line,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert abs(score.correct - line["test_correct"]) <= 5, "a spike may flip on another processor, not more"
    began = json.loads((run / "environment.json").read_text())["torch"]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        result = sw.resume(run, device="cpu", workers=0)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == CONFIG.optim.epochs
    assert result.total == line["test_total"]
    assert began == torch.__version__ or "no longer bit-identical" in said.getvalue(), said.getvalue()


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
