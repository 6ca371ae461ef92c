import re
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
