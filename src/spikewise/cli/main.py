"""The command line: one table of commands, from which dispatch and help are made. Every command is a function that could
as well be called from Python.
"""

import contextlib
import dataclasses
import io
import os
import re
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from .. import aliases
from ..config import Config
from ..wording import did_you_mean, options_as_flags, unknown_name
from . import data, events
from .analysis import analyze, diagnose, energy
from .convert import convert
from .convert_ann import convert_ann
from .cut import cut
from .export import export
from .imports import FLAG, import_modules, import_of_run, take_imports
from .info import doctor, list_tables
from .options import NUMBERS, flags_of
from .paper import reproduce
from .plan import plan
from .predict import predict
from .report import report
from .stream import stream
from .train import evaluate, require_data_root, resume, train


class Command(NamedTuple):
    """What a command calls, and what follows its name.

    start:  makes the config that the options change, of the word after the name and the modules that `--import` named; None:
            the function takes no config
    about:  what it does; the first line of the function's docstring, if that is not it
    """

    function: Callable[..., None]
    usage: str
    start: Callable[[str, tuple[str, ...]], Config] | None = None
    about: str = ""

    @property
    def summary(self) -> str:
        return self.about or (self.function.__doc__ or "").partition("\n")[0]


def recipe_config(recipe: str, imports: tuple[str, ...] = ()) -> Config:
    """The config of a recipe."""
    from ..recipes import RECIPES

    if recipe not in RECIPES:
        raise ValueError(unknown_name("recipe", recipe, RECIPES, own=True))
    config = RECIPES[recipe]()
    return dataclasses.replace(config, imports=imports or config.imports)


def descendant_config(run: str, imports: tuple[str, ...] = ()) -> Config:
    """The config of a run that begins with another run's last weights."""
    from ..engine.run.folder import read_config

    if not imports:  # else they were named anew
        import_of_run(Path(run))
    config = read_config(Path(run))
    return dataclasses.replace(config, weights=run, imports=imports or config.imports)


COMMANDS = {
    "train": Command(train, "RECIPE", recipe_config),
    "train --resume": Command(resume, "RUN"),
    "train --from": Command(train, "RUN", descendant_config, "Begin a new run with a run's weights and its config, changed."),
    "plan": Command(plan, "RECIPE", recipe_config),
    "predict": Command(predict, "RUN|FILE INPUT..."),
    "evaluate": Command(evaluate, "RUN|FILE"),
    "stream": Command(stream, "RUN|FILE INPUT"),
    "analyze": Command(analyze, "RUN|FILE"),
    "diagnose": Command(diagnose, "RUN|FILE"),
    "energy": Command(energy, "RUN|FILE"),
    "report": Command(report, "RUN..."),
    "convert-ann": Command(convert_ann, "RUN|FILE OUT"),
    "export": Command(export, "RUN|FILE OUT"),
    "convert": Command(convert, "RUN|FILE OUT"),
    "reproduce": Command(reproduce, "[NAME]"),
    "data download": Command(data.download, "NAME"),
    "data prepare": Command(data.prepare, "NAME --source FILES"),
    "data shard": Command(data.shard, "FOLDER OUT"),
    "data check": Command(data.check, "FOLDER"),
    "data info": Command(data.info, "NAME"),
    "events info": Command(events.info, "FILE"),
    "events show": Command(events.show, "FILE"),
    "events convert": Command(events.convert, "FILE... OUT"),
    "events frames": Command(events.frames, "FILE OUT"),
    "events cut": Command(cut, "FILE... OUT"),
    "doctor": Command(doctor, ""),
    "list": Command(list_tables, "[TOPIC]"),
}
WORDS = list(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS))
HELP = (["-h"], ["--help"])
SECTIONS = [field.name for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)]


def main(args: list[str] | None = None) -> int:
    """Run a command; the exit status. A user's mistake is one line on standard error and status 2."""
    args = list(sys.argv[1:] if args is None else args)
    try:
        return run_command(args)
    except BrokenPipeError:  # the reader of our output went away, as in `spikewise list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        status = exit_status(error)
        if status is None or os.environ.get("SPIKEWISE_TRACEBACK"):
            raise
        # in one write, as other processes have lines of their own
        print(f"spikewise: {rank_prefix()}{error_message(error)}\n", end="", file=sys.stderr)
        return status


def rank_prefix() -> str:
    """Which of several processes that train together says something; "" where there is one."""
    return "" if os.environ.get("WORLD_SIZE", "1") == "1" else f"rank {os.environ.get('RANK')}: "


def error_message(error: Exception) -> str:
    """What an error says, without the number of one of the system's."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def exit_status(error: Exception) -> int | None:
    """2 for a user's mistake and for what the machine lacks, 3 for a loss that is not finite, 128 + n after signal n;
    None for a mistake of our own.
    """
    if isinstance(error, ValueError | OSError | MemoryError):
        return 2
    if isinstance(error, ArithmeticError) and type(error).__module__.startswith("spikewise"):
        return 3
    return getattr(error, "status", None)


def run_command(args: list[str]) -> int:
    given = args
    modules, args = take_imports(args)
    if not args or args[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0 if args else 2
    word, rest = args[0], args[1:]
    if word == "--version":
        from .. import __version__

        print(f"spikewise {__version__}")
        return 0
    if word not in WORDS:
        raise ValueError(unknown_name("command", word, WORDS))
    if rest[:1] in HELP and (word not in COMMANDS or COMMANDS[word].start):
        print(help_text(word))
        return 0
    name, rest = find_command(word, rest)
    rest, notices = aliases.rename_flags(name, rest)
    for notice in notices:
        print(f"spikewise: {notice}", file=sys.stderr)
    if rank_prefix() and COMMANDS[name].function not in (train, resume):
        raise ValueError(
            f"`spikewise {name}` is for one process, and WORLD_SIZE={os.environ['WORLD_SIZE']}; leave torchrun out"
        )
    with options_as_flags(flags_of(COMMANDS[name].function)):
        return call_command(name, rest, import_modules(modules), given)


def call_command(name: str, args: list[str], imports: tuple[str, ...], given: list[str]) -> int:
    """Run a command with the arguments after its name; the exit status.

    given:  the whole command line, for processes that are started with it
    """
    if COMMANDS[name].start:
        call = bind_with_config(name, args, imports)
    else:
        call = bind(name, f"spikewise {name}", args)
        for run in () if imports else (*call.keywords.get("runs", ()), call.keywords.get("run")):  # else they were named anew
            if run is not None:
                import_of_run(Path(run))
        if imports and COMMANDS[name].function is resume:
            call = partial(call, imports=imports)
    trains = COMMANDS[name].function in (train, resume)
    processes = call.keywords.pop("processes", None) if trains else None
    if processes is not None:
        from ..engine.agreement import require_shards
        from ..engine.launch import launch, require_processes

        require_processes(processes)
        if "config" in call.keywords:  # of a run that goes on each process reads it
            require_shards(processes, call.keywords["config"])
        if processes > 1:
            return launch(processes, without_option(given, "--processes"))
    call()
    return 0


def without_option(args: list[str], flag: str) -> list[str]:
    """The arguments without an option and its value."""
    kept: list[str] = []
    for previous, word in zip(["", *args], args, strict=False):
        if flag not in (word, previous, word.partition("=")[0]):
            kept.append(word)
    return kept


def help_text(word: str = "") -> str:
    """All commands, or those that begin with `word`, a line each."""
    chosen = {name: command for name, command in COMMANDS.items() if word in ("", name.partition(" ")[0])}
    lines = [f"  {f'{name} {command.usage}':<34}{command.summary}" for name, command in chosen.items()]
    usages = [f"{name} {command.usage} [OPTIONS]" for name, command in chosen.items()]
    usages = usages if word in COMMANDS else [f"{word} COMMAND ...".strip()]
    kinds = (f"{word} RECIPE", "train --resume", "train --from RUN")[: len(usages)]
    names = kinds if word in COMMANDS else [f"{word} COMMAND".strip()]
    each = [f"`spikewise {name} --help`" for name in names]
    more = ["`spikewise list recipes` shows the recipes."] if word in COMMANDS else []
    more.append(f"{', '.join(each)} {'show' if names[1:] else 'shows'} every option.")
    more.append(
        "`--import MODULE`, with any command, first imports a module that registers neurons, data sets and so on of your own."
    )
    return "\n".join(["usage: " + "\n       ".join(f"spikewise {usage}" for usage in usages), "", *lines, "", *more])


def find_command(word: str, args: list[str]) -> tuple[str, list[str]]:
    """The command's whole name, and the arguments after it.

    Raises:  ValueError for a name that is none, and for a command that needs an argument and has not got any
    """
    flag = next((flag for arg in args if (flag := arg.partition("=")[0]) in ("--resume", "--from")), "")
    if word == "train" and flag:
        if not args[0].startswith("-"):
            raise ValueError(f"{flag} goes on from a run, with its config; leave out {args[0]!r}")
        name, rest = f"train {flag}", [arg.removeprefix(f"{flag}=") for arg in args if arg != flag]
    elif word in COMMANDS:
        name, rest = word, args
    else:
        name, rest = f"{word} {args[0] if args else ''}", args[1:]
        if name not in COMMANDS:
            known = [name.partition(" ")[2] for name in COMMANDS if name.startswith(f"{word} ")]
            given = f"{did_you_mean(args[0], known)}given {args[0]}" if args else "given nothing"
            raise ValueError(f"`spikewise {word}` knows {', '.join(known)}; {given}")
    usage = COMMANDS[name].usage
    if not rest and usage and usage[0] != "[" and not COMMANDS[name].start:
        raise ValueError(f"{name} needs {usage}: spikewise {name} {usage}")
    return name, rest


def bind(name: str, prog: str, args: list[str], **values: Any) -> partial[None]:
    """The command's function with the arguments of the command line, not yet called.

    Raises:  ValueError for an option that the command doesn't have; what doesn't parse ends the process with status 2
    """
    function = COMMANDS[name].function

    @wraps(function)
    def hold(**options: Any) -> partial[None]:
        return partial(function, **options)

    held = partial(hold, **values)
    call, unknown = tyro.cli(held, prog=prog, args=args, return_unknown_args=True, registry=NUMBERS)
    if not unknown:
        return call
    word = unknown[0].partition("=")[0]
    if not word.startswith("-"):
        raise ValueError(f"{word!r} is one argument too many: spikewise {name} {COMMANDS[name].usage}".strip())
    if not COMMANDS[name].start and word.partition(".")[0].removeprefix("--") in SECTIONS:
        takes = "looks at data as they lie there" if name.startswith("data ") else "takes a run as its config says"
        raise ValueError(f"{word} is an option of a new run; `{prog}` {takes}")
    advice = did_you_mean(word, [FLAG, *known_flags(held)])
    if word == "--recipe" and COMMANDS[name].start:
        advice = f"the recipe comes first: spikewise {name} RECIPE; "
    raise ValueError(f"`{prog}` has no option {word}; {advice}`{prog} --help` shows its options")


def known_flags(function: Callable[..., Any]) -> list[str]:
    """The options that the help of a function's command line shows."""
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        tyro.cli(function, args=["--help"], registry=NUMBERS)
    return re.findall(r"(?<=\W)--[a-z][\w.-]*", shown.getvalue())


def bind_with_config(name: str, args: list[str], imports: tuple[str, ...]) -> partial[None]:
    """`bind`, with the config that the first argument names, changed by the options after it."""
    from ..recipes import RECIPES

    command = COMMANDS[name]
    assert command.start is not None
    needs = f"{name} needs a {command.usage.lower()}"
    instead = ", or --resume RUN" if name == "train" else ""
    if args and args[0].startswith("-"):
        raise ValueError(f"{needs} before its options{instead}; given {args[0]!r} first")
    if not args:
        raise ValueError(f"{needs}{instead}" + (f"; known: {', '.join(RECIPES)}" if command.usage == "RECIPE" else ""))
    start = command.start(args[0], imports)
    call = bind(name, f"spikewise {name} {args[0]}", args[1:], config=start)
    config = call.keywords["config"]
    if command.function is train:
        require_data_root(config)
    if config.weights and config.weights != start.weights:
        from ..engine.finetune import adopt_network

        told = [word.partition("=")[0].removeprefix("--model.") for word in args if word.startswith("--model.")]
        fields = {field.name for field in dataclasses.fields(config.model)}
        names = [word.replace("-", "_") for word in told]
        config = adopt_network(config, [name if name in fields else name.removeprefix("no_") for name in names])
    from ..engine.unused_fields import without_unused

    config = without_unused(config, start)
    if name == "train --from" and not (call.keywords["quiet"] or call.keywords["as_json"]):
        print(f"spikewise: {describe_inheritance(args[0], config, start)}", file=sys.stderr)
    return partial(call, config=config)


def describe_inheritance(run: str, config: Config, start: Config) -> str:
    """What of a run's config, beyond the defaults of any run, holds in a new one, and what was changed."""
    from ..engine.run.fingerprint import flatten_config

    now, before, default = map(flatten_config, (config, start, Config()))
    own = ("weights", "recipe", "imports")  # told elsewhere
    kept = [f"{name}={value!r}" for name, value in now.items() if before[name] == value != default[name] and name not in own]
    changed = [f"{name} {before[name]!r} -> {value!r}" for name, value in now.items() if before[name] != value]
    return f"as in {run}: {', '.join(kept) or 'the defaults'}; changed: {', '.join(changed) or 'nothing'}"


def run() -> None:
    """The console script."""
    sys.exit(main())
