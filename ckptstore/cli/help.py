"""What ``--help`` prints: the usage, one paragraph, and the options, without frames."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["Command", "Group", "Option", "options_of_command", "paragraphs", "uncapitalized"]

_WIDEST = 100
_COLUMN = 27
_SHARED = ("store", "option", "json", "debug", "help")

Option = tuple[str, str]
"""An option as it is typed, and what it does."""


class Command(TyperCommand):
    """A command whose usage line is given rather than derived."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002  # every context has the same
        """Return what follows the command's name."""
        return [str(self.options_metavar)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        own, shared = options_of_command(self, ctx)
        formatter.write(f"Usage: {ctx.command_path} {self.options_metavar}\n")
        formatter.write("".join(f"\n{_wrapped(text)}\n" for text in paragraphs(self.help)))
        for title, options in (("Options", own), ("Store and output", shared)):
            formatter.write(_section(title, options))


class Group(TyperGroup):
    """All commands, under the headings of their panels."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(f"Usage: {ctx.command_path} COMMAND ...\n")
        formatter.write("".join(f"\n{_wrapped(text)}\n" for text in paragraphs(self.help)))
        panels: dict[str, list[Option]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            panel = str(getattr(command, "rich_help_panel", ""))
            panels.setdefault(panel, []).append((name, paragraphs(getattr(command, "help", ""))[0].rstrip(".")))
        for panel, commands in panels.items():
            formatter.write(_section(panel, commands, column=14))
        formatter.write(_section("Options", _options(self.get_params(ctx))))


def options_of_command(command: Any, ctx: Any) -> tuple[list[Option], list[Option]]:
    """Return the options that a command has for itself, and those that it shares with all."""
    options = [param for param in command.get_params(ctx) if param.param_type_name == "option"]
    own = [param for param in options if param.name not in _SHARED]
    return _options(own), _options(param for param in options if param.name in _SHARED)


def paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a docstring, each in one line."""
    return [" ".join(part.split()) for part in inspect.cleandoc(text or "").split("\n\n") if part.strip()]


def uncapitalized(text: str) -> str:
    """Return text without the capital letter of a sentence; YAML stays YAML."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _options(params: Iterable[Any]) -> list[Option]:
    return [(_names(param), _help(param)) for param in params if param.param_type_name == "option"]


def _names(param: Any) -> str:
    names = ", ".join(sorted([*param.opts, *param.secondary_opts], key=len))
    return f"{names} {param.metavar}" if param.metavar else names


def _help(param: Any) -> str:
    variable = f" [{param.envvar}]" if param.envvar else ""
    text = param.help or ""
    return (text if text.endswith("...") else text.removesuffix(".")) + variable


def _section(title: str, options: Iterable[Option], column: int = _COLUMN) -> str:
    lines = [line for name, text in options for line in _row(name, text, column)]
    return "\n".join(["", typer.style(f"{title}:", bold=True), *lines, ""]) if lines else ""


def _row(name: str, text: str, column: int) -> Iterator[str]:
    head = f"  {name}"
    if len(head) > column - 2:
        yield head
        head = ""
    yield textwrap.fill(
        text, _width(), initial_indent=f"{head:<{column}}", subsequent_indent=" " * column, break_on_hyphens=False
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _width(), break_on_hyphens=False, break_long_words=False)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST) - 1
