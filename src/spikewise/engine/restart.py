"""Processes that a launcher starts again, with the same command: whose run it is, and whether it was asked to stop.

torchrun takes the end of a process for a failure, also one that a signal asked for. So a stop leaves word in the run folder
for the processes that the same launcher starts next. Whoever resumes the run by hand has another launcher, or none.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import disk
from ..config import Config, to_json
from .distributed import World
from .errors import Interrupted
from .run.folder import CONFIG, ENVIRONMENT, STOPPED, encode_json, read_object, require_empty


@dataclass(frozen=True)
class Stop:
    """A stop that a signal asked for, as `stopped.json` keeps it."""

    signal: int
    message: str
    launch: str


def is_begun(run: Path, config: Config, launch: str) -> bool:
    """Whether this launcher has begun this run before; else the folder is for a new one.

    Raises:  FileExistsError for a folder in use
    """
    is_own = bool(launch) and read_object(run / ENVIRONMENT).get("launch") == launch and (run / CONFIG).is_file()
    if is_own and (run / CONFIG).read_text() == to_json(config):
        return True
    require_empty(run)
    return False


def leave_stop(run: Path, stop: Stop) -> None:
    """Leave word of a stop, where there is a launcher that may start processes again."""
    if stop.launch:
        disk.atomic_write(run / STOPPED, encode_json(asdict(stop)))


def obey_stop(world: World, run: Path) -> None:
    """End in every process where this launcher's earlier processes were asked to stop.

    Raises:  Interrupted
    """
    content = json.loads(world.tell(lambda: json.dumps(read_object(run / STOPPED))))
    if world.launch and content.get("launch") == world.launch:
        raise Interrupted(content["signal"], content["message"])


def forget_stop(run: Path) -> None:
    """Remove the word of a stop: the run goes on."""
    disk.remove_tree(run / STOPPED)
