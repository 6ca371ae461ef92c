"""The command line: one table of commands, from which dispatch and help are made. Every command is a function that could
as well be called from Python.
"""

import os
import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple

import tyro

from .. import aliases
from ..config import Config
from . import data, events
from .analysis import analyze, diagnose, energy
from .info import doctor, list_tables
from .options import NUMBERS
from .paper import reproduce
from .plan import plan
from .train import evaluate, resume, train


class Command(NamedTuple):
    """What a command calls, and what follows its name; after RECIPE, the function is given that recipe's config."""

    function: Callable[..., None]
    usage: str

    @property
    def summary(self) -> str:
        return (self.function.__doc__ or "").partition("\n")[0]

    @property
    def takes_recipe(self) -> bool:
        return self.usage == "RECIPE"


COMMANDS = {
    "train": Command(train, "RECIPE"),
    "train --resume": Command(resume, "RUN"),
    "plan": Command(plan, "RECIPE"),
    "evaluate": Command(evaluate, "RUN"),
    "analyze": Command(analyze, "RUN"),
    "diagnose": Command(diagnose, "RUN|FILE"),
    "energy": Command(energy, "RUN|FILE"),
    "reproduce": Command(reproduce, "[NAME]"),
    "data download": Command(data.download, "NAME"),
    "data prepare": Command(data.prepare, "NAME --source FILES"),
    "data shard": Command(data.shard, "FOLDER OUT"),
    "data check": Command(data.check, "FOLDER"),
    "data info": Command(data.info, "NAME"),
    "events info": Command(events.info, "FILE"),
    "events show": Command(events.show, "FILE"),
    "events convert": Command(events.convert, "FILE OUT"),
    "doctor": Command(doctor, ""),
    "list": Command(list_tables, "[TOPIC]"),
}
WORDS = list(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS))
HELP = (["-h"], ["--help"])


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
        print(f"spikewise: {error_message(error)}", file=sys.stderr)
        return status


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
    if not args or args[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0 if args else 2
    word, rest = args[0], args[1:]
    if word == "--version":
        from .. import __version__

        print(f"spikewise {__version__}")
        return 0
    if word not in WORDS:
        raise ValueError(f"no command named {word!r}; known: {', '.join(WORDS)}")
    if rest[:1] in HELP and (word not in COMMANDS or COMMANDS[word].takes_recipe):
        print(help_text(word))
        return 0
    name, rest = find_command(word, rest)
    rest, notices = aliases.rename_flags(name, rest)
    for notice in notices:
        print(f"spikewise: {notice}", file=sys.stderr)
    call = call_with_recipe if COMMANDS[name].takes_recipe else tyro.cli
    call(COMMANDS[name].function, prog=f"spikewise {name}".removesuffix(" --resume"), args=rest, registry=NUMBERS)
    return 0


def help_text(word: str = "") -> str:
    """All commands, or those that begin with `word`, a line each."""
    chosen = {name: command for name, command in COMMANDS.items() if word in ("", name.partition(" ")[0])}
    lines = [f"  {f'{name} {command.usage}':<34}{command.summary}" for name, command in chosen.items()]
    example = f"{word} RECIPE" if word in COMMANDS else f"{word} NAME" if word else "COMMAND"
    recipes = ["`spikewise list recipes` shows the recipes."] if word in COMMANDS else []
    more = [*recipes, f"`spikewise {example} --help` shows every option."]
    return "\n".join(["usage: spikewise COMMAND ...", "", *lines, "", *more])


def find_command(word: str, args: list[str]) -> tuple[str, list[str]]:
    """The command's whole name, and the arguments after it."""
    if word == "train" and any(arg.partition("=")[0] == "--resume" for arg in args):
        if not args[0].startswith("-"):
            raise ValueError(f"--resume goes on with a run as its config says; leave out {args[0]!r}")
        return "train --resume", args
    if word in COMMANDS:
        return word, args
    if not args or f"{word} {args[0]}" not in COMMANDS:
        known = ", ".join(name.partition(" ")[2] for name in COMMANDS if name.startswith(f"{word} "))
        raise ValueError(f"`spikewise {word}` knows {known}; given {args[0] if args else 'nothing'}")
    return f"{word} {args[0]}", args[1:]


def call_with_recipe(function: Callable[..., None], *, prog: str, args: list[str], **how: Any) -> None:
    """Call `function` with the config of the recipe that is the first argument, changed by the options after it."""
    from ..recipes import RECIPES

    command = prog.removeprefix("spikewise ")
    instead = ", or --resume DIR" if function is train else ""
    if args and args[0].startswith("-"):
        raise ValueError(f"{command} needs a recipe before its options{instead}; given {args[0]!r} first")
    if not args or args[0] not in RECIPES:
        mistake = f"no recipe named {args[0]!r}" if args else f"{command} needs a recipe{instead}"
        raise ValueError(f"{mistake}; known: {', '.join(RECIPES)}")
    recipe = args[0]

    @wraps(function)
    def call(config: Config, **options: Any) -> None:
        if config.recipe != recipe:
            raise ValueError(f"--recipe {config.recipe} can't be set; name the recipe first: {prog} {config.recipe}")
        function(config, **options)

    tyro.cli(partial(call, config=RECIPES[recipe]()), prog=f"{prog} {recipe}", args=args[1:], **how)


def run() -> None:
    """The console script."""
    sys.exit(main())
