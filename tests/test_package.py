import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import spikewise

ROOT = Path(__file__).parents[1]


def test_import_is_quick_and_brings_nothing_heavy():
    code = "import spikewise, sys; print([m for m in ('torch', 'torchvision', 'sklearn', 'tyro') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_public_names_are_there():
    for name in spikewise.__all__:
        assert getattr(spikewise, name) is not None
    assert set(spikewise.__all__) <= set(dir(spikewise))


def test_nothing_needs_torchvision_or_scikit_learn():
    sources = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    assert not re.search(r"^\s*(import|from) (torchvision|sklearn|scipy)", sources, re.MULTILINE)


BARE = """
import sys
for name in ("tyro", "rich", "PIL", "tensorboardX", "pooch", "fsspec", "h5py", "aedat", "matplotlib", "hypothesis"):
    sys.modules[name] = None  # as if it were not installed
sys.path.insert(0, "benchmarks")
import bench_fire, bench_gpu, bench_gpu_networks, bench_memory, bench_scaling, bench_step, runner
import torch
import spikewise as sw
from spikewise.data.input_spec import InputSpec

folder = sys.argv.pop(1)
net = sw.build_model("sew_resnet20", num_classes=3, in_channels=1, T=2)
net.input_spec = InputSpec("mine", "images", ("a", "b", "c"), (1, 8, 8))  # as training leaves it
images, before = torch.rand(4, 1, 8, 8), net.fc.weight.detach().clone()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
torch.nn.functional.cross_entropy(net(images), torch.tensor([0, 1, 2, 0])).backward()
optimizer.step()
assert not torch.equal(net.fc.weight, before)
sw.save_pretrained(net, folder)
loaded = sw.load_pretrained(folder)
assert loaded.class_names == ("a", "b", "c")
assert torch.equal(loaded(images), net.eval()(images))
state = None
for image in images[:, None]:
    logits, state = loaded.step(image, state)
print(runner.where()["commit"], runner.parse_options(bench_gpu.Options).precision)
"""


def test_kernels_models_and_their_benchmarks_need_pytorch_numpy_and_safetensors_only(tmp_path):
    compiler = os.environ.get("CC") or shutil.which("cc") or ""
    command = [sys.executable, "-c", BARE, str(tmp_path), "--precision", "float16"]
    environment = os.environ | {"PATH": "", "CC": compiler}  # no git
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["unknown", "float16"], done.stderr


def test_python_of_the_readme_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_version_is_in_the_changelog():
    assert f"## {spikewise.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_file_tree_of_the_readme_is_true():
    tree = re.search(r"```text\n(src/.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    top = folder = ROOT
    for line in tree.splitlines():
        names = re.findall(r"[\w/]+(?:/|\.py|\.md)(?=\s|$)", line)
        depth = len(line) - len(line.lstrip())
        if depth == 0:
            top = folder = ROOT / names.pop(0)
        elif depth == 2:  # a folder of src/spikewise, or files in it; deeper lines go on with the last one
            folder = top / names.pop(0) if names[0].endswith("/") else top
        assert folder.is_dir(), f"the README names {folder}"
        for name in names:
            assert (folder / name).exists(), f"the README names {name} in {folder}"
