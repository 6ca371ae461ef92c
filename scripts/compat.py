"""The core tests under several versions of PyTorch and Python: fills the table of docs/compatibility.md.

    python scripts/compat.py 2.8.0@python3.11 2.11.0@python3.12 2.13.0@python3.13 [--folder BIG_DISK]

Each version gets a fresh virtual environment with the project in it, removed afterwards: CUDA builds of PyTorch take some
7 GB each. The first one stays to the end, so that files are read both ways (`exchange.py`). Where pip finds PyTorch, its own
settings say: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu takes the small CPU builds.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
TESTS = ("tests/kernels", "tests/neurons", "tests/native", "tests/models", "tests/engine")
COLUMNS = ("PyTorch", "Python", "Triton", "NumPy", "passed", "failed", "skipped", "date", "processor")
VERSIONS = """
import importlib.metadata, json, platform, torch
from spikewise.native.processor import cpu_name
installed = {d.name: d.version for d in importlib.metadata.distributions()}
print(json.dumps({"PyTorch": torch.__version__, "Python": platform.python_version(), "Triton": installed.get("triton", "none"),
                  "NumPy": installed["numpy"], "processor": cpu_name()}))
"""


def run(*command: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command in the checkout, outside of any other environment, on one thread and behind everybody else."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.run(["nice", "-n", "5", *map(str, command)], check=check, cwd=ROOT, env=environment, text=True, **options)


def install(place: Path, torch: str, interpreter: str) -> Path:
    """Make an environment with this PyTorch, the project and what its tests need; its Python.

    Not with the versions of constraints.txt: those are the newest PyTorch's, and older ones refuse some of them.
    """
    run(interpreter, "-m", "venv", place)
    python = place / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-cache-dir", f"torch=={torch}", ".[dev]")
    return python


def test(python: Path, workers: str) -> dict[str, Any]:
    """Run the tests; how many passed, failed and were skipped."""
    report = python.parents[1] / "report.xml"
    options = ("-q", "-n", workers, "-m", "not slow", "-p", "no:cacheprovider", f"--junitxml={report}")
    run(python, "-m", "pytest", *options, *TESTS, check=False)
    (suite,) = ElementTree.parse(report).getroot()
    total, failed, errors, skipped = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    failed += errors
    return {"passed": total - failed - skipped, "failed": failed, "skipped": skipped}


def fill_table(row: dict[str, Any]) -> None:
    """Put a row into the page's table, in the place of an earlier one of the same PyTorch and Python."""
    page = PAGE.read_text()
    head, rule, *lines = re.search(r"(^\|.*\n)+", page, re.MULTILINE)[0].splitlines()
    line = f"| {' | '.join(str(row[name]) for name in COLUMNS)} |"
    lines = [other for other in lines if other.split("|")[1:3] != line.split("|")[1:3]]
    table = "\n".join([head, rule, *sorted([*lines, line], key=version_order)])
    PAGE.write_text(re.sub(r"(^\|.*\n)+", lambda _: f"{table}\n", page, count=1, flags=re.MULTILINE))


def version_order(line: str) -> list[int]:
    """Lines of the table, the oldest PyTorch first."""
    return [int(number) for number in re.findall(r"\d+", line)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="+", metavar="PYTORCH[@PYTHON]", help="such as 2.8.0, or 2.8.0@python3.12")
    parser.add_argument("--folder", type=Path, help="where environments are made; default the system's temporary folder")
    parser.add_argument("--workers", default="0", help="processes that run tests; default pytest's own alone")
    options = parser.parse_args()
    failed, pythons = 0, []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        files = Path(folder, "files")
        for version in options.versions:
            torch, _, interpreter = version.partition("@")
            python = install(Path(folder, version), torch, interpreter or sys.executable)
            versions = json.loads(run(python, "-c", VERSIONS, stdout=subprocess.PIPE).stdout)
            results = test(python, options.workers)
            fill_table(versions | results | {"date": datetime.date.today().isoformat()})
            failed += results["failed"]
            run(python, "scripts/exchange.py", "write", files / version)
            pythons.append(python)
            for reader, others in ((python, options.versions[: len(pythons)]), (pythons[0], [version])):
                for other in others:
                    run(reader, "scripts/exchange.py", "read", files / other)
            if python is not pythons[0]:
                shutil.rmtree(Path(folder, version))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
