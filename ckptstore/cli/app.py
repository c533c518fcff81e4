"""The whole command line: every command, and how it is started."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, cast

import typer

from ckptstore._version import __version__
from ckptstore.cli import comparing, examining, exchanging, looking, maintaining, moving, printing, showing, shrinking  # noqa: F401  # the commands
from ckptstore.cli.addresses import WrongUse
from ckptstore.cli.answers import as_json, printable
from ckptstore.cli.command import register
from ckptstore.cli.failures import INTERRUPTED, describe_failure, exit_code_of
from ckptstore.cli.help import Group, uncapitalized

__all__ = ["COMMANDS", "app", "run"]

COMMANDS = ("ls", "show", "log", "cat", "diff", "why", "mirror", "export", "import",
            "verify", "doctor", "prune", "gc", "compress", "decompress")  # fmt: skip
"""In the order in which the help lists them."""

app = typer.Typer(
    name="ckptstore",
    cls=Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
register(app, COMMANDS)

_CommandLineError = cast(  # typer brings its own click, or uses the installed one
    "type[Exception]", next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code.

    Args:
        arguments: by default those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a sign shows another one
            stream.reconfigure(errors="replace")
    try:
        ended = app(arguments if arguments is None else list(arguments), prog_name="ckptstore", standalone_mode=False)
    except _CommandLineError as error:
        return _say_misuse(error, as_document="--json" in (sys.argv if arguments is None else arguments))
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("ckptstore: interrupted\n")
        return INTERRUPTED
    return ended if isinstance(ended, int) else 0


def _say_misuse(error: BaseException, *, as_document: bool) -> int:
    describe = getattr(error, "format_message", error.__str__)
    message = " ".join(str(describe()).replace("Value error, ", "").replace(": Input should", ": it should").split())
    context = getattr(error, "ctx", None)
    place = getattr(context, "command_path", "ckptstore")
    wrong = WrongUse(f"{uncapitalized(message).rstrip('.')}; see {place} --help")
    sys.stderr.write(f"{place}: {printable(str(wrong))}\n")
    if as_document:
        sys.stdout.write(as_json(describe_failure(wrong)) + "\n")
    return exit_code_of(wrong)


def _version(*, asked: bool) -> None:
    if asked:
        sys.stdout.write(f"ckptstore {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  # its callback answers
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda value: _version(asked=value), help="Print the version."
        ),
    ] = False,
) -> None:
    """Keep every checkpoint of an ML experiment next to the proof of what produced it.

    STORE is a folder, s3://bucket/prefix, gs://bucket/prefix, ...; without one it is --store, CKPTSTORE_STORE, or the
    folder here that holds experiments. HASH is 4 or more digits of an experiment's hash; HASH@STEP is a checkpoint.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
