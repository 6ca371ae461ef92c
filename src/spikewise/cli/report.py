"""The command `spikewise report`."""

import json
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .options import DataRoot, Device, Json


def report(
    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...", help_behavior_hint="(one or more)")],
    out: Annotated[Path | None, arg(metavar="FILE")] = None,
    samples: int = 1000,
    data: bool = True,
    device: Device = "auto",
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """One HTML file about runs: curves, firing rates, gradients, mistakes, energy; opens offline.

    Args:
        runs: run folders, up to 8; of several also what differs between them
        out: the file; default report.html in the first run's folder
        samples: of the test split that are looked at, spread over the classes
        data: --no-data: only what the run folders tell, without looking at samples
    """
    from ..models.network import require_positive
    from ..report.measure import Scope
    from ..report.report import write_report

    if not runs:
        raise ValueError("report needs a RUN: spikewise report RUN...")
    require_positive(samples=samples)
    scope = Scope(samples=samples if data else 0, device=device, data_root=data_root, quiet=as_json)
    written = write_report(runs, out, scope)
    if as_json:
        print(json.dumps(written._asdict() | {"file": str(written.file)}))
    else:
        print(f"{written.file}: {written.bytes / 1e6:.1f} MB, {len(written.sections)} sections; open it in a browser")
