"""A command: what all of them share, in one place.

A command is a function of a `Call` and its own arguments that returns an `Answer`. The options that every command
has are added here, and here its answer is printed, or its failure.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from ckptstore.cli.addresses import STORE_VARIABLE, Address, WrongUse, check_place, nearby_store, split_words
from ckptstore.cli.answers import Answer, as_json, print_answer, printable
from ckptstore.cli.completion import complete_word
from ckptstore.cli.drawing import DrawnProgress
from ckptstore.cli.failures import PIPE_CLOSED, describe_failure, exit_code_of
from ckptstore.cli.help import Command
from ckptstore.cli.values import options_of
from ckptstore.store import Store, open_store

__all__ = ["Call", "CommandFunction", "OtherOptions", "Words", "command", "register"]

CommandFunction: TypeAlias = Callable[..., Answer]

DEBUG_VARIABLE = "CKPTSTORE_DEBUG"


Words = Annotated[list[str] | None, typer.Argument(show_default=False, autocompletion=complete_word)]
"""What is typed besides options; a command says in its usage what it makes of it."""

OtherOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--other-option", "-O", metavar="NAME=VALUE",
        help="Option of the second store's backend; by default those of the first, if both are of one kind.",
    ),
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a command.

    Attributes:
        store: the place that ``--store`` or the environment names.
        options: of its backend.
        as_document: print JSON.
        debug: print the traceback of an error.
        progress: told of what takes long.
        closing: what is closed when the command ends.
    """

    store: str | None
    options: dict[str, object]
    as_document: bool
    debug: bool
    progress: DrawnProgress = field(default_factory=DrawnProgress)
    closing: ExitStack = field(default_factory=ExitStack)

    def opened(
        self, words: Sequence[str], *, at_least: int = 0, at_most: int | None = None
    ) -> tuple[Store, list[Address]]:
        """Return the store that a command reads from, open until it ends, and the experiments that its words mean.

        Raises:
            WrongUse: the words make no sense.
            StoreNotFound: it is a folder that does not exist.
        """
        named, addresses = split_words(words, at_least=at_least, at_most=at_most)
        return self.open(self.place(named)), addresses

    def place(self, named: str | None = None) -> str:
        """Return where the store is: as named, or by the option, the environment, or the folder one is in."""
        if named is not None and self.store is not None and not os.environ.get(STORE_VARIABLE) == self.store:
            raise WrongUse("the store was given twice, as a word and with --store")
        return named or self.store or str(nearby_store(Path.cwd()))

    def hashes(self, store: Store, addresses: Sequence[Address]) -> list[str] | None:
        """Return the full hashes of some experiments; None, which means all, where none was named.

        Raises:
            WrongUse: a checkpoint was named.
            UnknownExperiment: a prefix fits none, or several.
        """
        from ckptstore.cli.selection import chosen_experiments

        if any(address.step is not None for address in addresses):
            raise WrongUse("this command takes experiments (HASH), not single checkpoints (HASH@STEP)")
        return [one.exp_hash for one in chosen_experiments(store, addresses)] if addresses else None

    def open_other(
        self, first: Store, location: str, words: Sequence[str] | None, *, may_be_new: bool = False
    ) -> Store:
        """Return a second store, open until the command ends.

        Without options of its own, it gets those of the first one where that is of the same scheme.
        """
        own = options_of(words or [])
        alike = location.partition("://")[0] == first.url.partition("://")[0]
        return self.open(location, may_be_new=may_be_new, options=own or (self.options if alike else {}))

    def open(self, location: str, *, may_be_new: bool = False, options: dict[str, object] | None = None) -> Store:
        """Return the store at a place, open until the command ends."""
        try:
            opened = open_store(location, **(self.options if options is None else options))
        except TypeError as error:
            raise WrongUse(str(error)) from error
        if not may_be_new:
            check_place(location)
        return self.closing.enter_context(opened)


def shared(
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            "-s",
            metavar="PLACE",
            envvar=STORE_VARIABLE,
            help="PATH, s3://bucket/prefix, gs://bucket/prefix, ...",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-o",
            metavar="NAME=VALUE",
            help="Option of the store's backend; VALUE is JSON or text. Keep secrets in the environment.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar=DEBUG_VARIABLE, help="Show the traceback of an error."),
    ] = False,
) -> Call:
    """Return the call that the options of every command make."""
    return Call(store=store or None, options=options_of(option or []), as_document=json, debug=debug)


@dataclass(frozen=True, slots=True)
class _Registered:
    run: Callable[..., None]
    panel: str
    usage: str


_registered: dict[str, _Registered] = {}


def command(name: str, *, panel: str, usage: str) -> Callable[[CommandFunction], CommandFunction]:
    """Make a function a command; its docstring is the help, its first argument the `Call`.

    Args:
        name: what is typed.
        panel: under which heading the help lists it.
        usage: the words that follow the name.
    """

    def made(function: CommandFunction) -> CommandFunction:
        _registered[name] = _Registered(_with_shared_options(function), panel, usage)
        return function

    return made


def register(app: typer.Typer, names: Sequence[str]) -> None:
    """Add commands to an application, in this order."""
    for name in names:
        made = _registered[name]
        usage = f"{made.usage} [OPTIONS]"
        app.command(name, rich_help_panel=made.panel, options_metavar=usage, cls=Command)(made.run)


def _with_shared_options(function: CommandFunction) -> Callable[..., None]:
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    common = list(inspect.signature(shared, eval_str=True).parameters.values())

    def run(**given: Any) -> None:
        with _failures_are_lines(given) as call, call.closing:
            with call.progress:
                answer = function(call, **{parameter.name: given[parameter.name] for parameter in own})
            print_answer(answer, as_document=call.as_document)
        if answer.exit_code:
            raise typer.Exit(answer.exit_code)

    parameters = [*own, *common]
    run.__doc__ = function.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@contextmanager
def _failures_are_lines(given: dict[str, Any]) -> Iterator[Call]:
    try:
        yield shared(**{name: given[name] for name in inspect.signature(shared).parameters})
    except typer.Exit:
        raise
    except BrokenPipeError:
        # what Python would write at its end goes nowhere, rather than fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None
    except Exception as error:  # noqa: BLE001  # a person reads one line; --debug shows the rest
        if given["debug"]:
            traceback.print_exc()
        failure = describe_failure(error)
        sys.stderr.write(f"ckptstore: {printable(failure['error']['message'])}\n")
        if given["json"]:
            sys.stdout.write(as_json(failure) + "\n")
        raise typer.Exit(exit_code_of(error)) from None
