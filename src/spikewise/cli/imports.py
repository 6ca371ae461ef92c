"""`--import MODULE`: the user's own neurons, networks, connections and data sets, registered by a module of theirs.

A module is a dotted name or a .py file. A run's config records it, and the commands that open the run import it again: an
absolute path or an installed module, and never without a line that names it, as a run folder may come from elsewhere.
"""

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

FLAG = "--import"


def take_imports(args: list[str]) -> tuple[list[str], list[str]]:
    """The modules that `--import` names anywhere among the arguments, and the arguments without them.

    Raises:  ValueError for one without its module
    """
    modules, others, rest = [], [], iter(args)
    for word in rest:
        flag, equals, module = word.partition("=")
        if flag != FLAG:
            others.append(word)
            continue
        module = module if equals else next(rest, "")
        if not module or module.startswith("-"):
            raise ValueError("--import needs a module: a dotted name, or a .py file")
        modules.append(module)
    return modules, others


def import_modules(modules: Iterable[str]) -> tuple[str, ...]:
    """Import each, and return how a config records them: dotted names, and absolute paths of files.

    Raises:  ValueError or OSError for one that can't be found, or that fails
    """
    return tuple(dict.fromkeys(import_file(Path(name)) if name.endswith(".py") else import_name(name) for name in modules))


def import_name(name: str) -> str:
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"--import {name}: it needs {error.name}, which is not installed") from None
        file = Path(f"{name.replace('.', '/')}.py")
        advice = f"give its file: --import {file}" if file.is_file() else "install it, or give its .py file"
        raise ValueError(f"--import {name}: no module of that name is installed; {advice}") from None
    except Exception as error:
        raise failed(name, error) from error
    return name


def import_file(path: Path) -> str:
    """As Python runs a script: what lies beside the file can be imported, too."""
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"--import {path}: there is no such file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last: no file of a user's shall hide a module of someone else's
    try:
        module = import_module(path.stem)
    except Exception as error:
        raise failed(str(path), error) from error
    if Path(module.__file__ or "").resolve() != path:
        raise ValueError(f"--import {path}: another module is named {path.stem!r} ({module.__file__}); rename the file")
    return str(path)


def failed(name: str, error: Exception) -> ValueError:
    return ValueError(f"--import {name} failed: {type(error).__name__}: {error} (SPIKEWISE_TRACEBACK=1 shows where)")


def import_of_run(run: Path) -> None:
    """Import what the config of a run records, each announced on standard error.

    Raises:  ValueError for a path that is not absolute: it would be looked for where the user happens to be; and for a module
             that is not there any more, with the option that says where it is now
    """
    from ..engine.run.folder import CONFIG, is_run, read_config, run_of_checkpoint

    if found := run_of_checkpoint(run):
        run = found[0]
    if not is_run(run):
        return
    modules = read_config(run).imports
    for name in modules:
        if name.endswith(".py") and not Path(name).is_absolute():
            raise ValueError(f"{run / CONFIG} imports {name}, a path that is not absolute; name the file: --import {name}")
        print(f"spikewise: importing {name}, as {run / CONFIG} says", file=sys.stderr)
        try:
            import_modules([name])
        except (ValueError, OSError) as error:
            every = f", for all {len(modules)} that it records" if modules[1:] else ""
            raise ValueError(
                f"{error}; {run / CONFIG} asks for it: say where it is now by --import NEW/PLACE.py{every}"
            ) from None
