"""What a command answers, and the two forms in which it is printed: for people, and as one JSON document."""

from __future__ import annotations

import json
import math
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from ckptstore.objects import Buffer

__all__ = ["Answer", "Hanging", "as_json", "console", "fact_table", "one_line", "print_answer", "printable", "styled",
           "table"]  # fmt: skip


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LINE_END = re.compile(r"(?:\x1b\[[0-9;]*m| )+$")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Hanging:
    """A sentence that a terminal wraps under itself, and never within a word: a key stays whole.

    Attributes:
        text: what is said.
        indent: of every line but the first, in columns.
        first: what stands before it in the first line.
    """

    text: str
    indent: int
    first: str = ""

    def wrapped(self, width: int) -> str:
        """Return it in lines of at most that many columns, as far as its words allow."""
        return textwrap.fill(
            printable(self.text), width, initial_indent=self.first, subsequent_indent=" " * self.indent,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.first}{printable(self.text)}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found or did.

    Attributes:
        plain: all of it, as plain data.
        page: what a person reads, in order.
        exit_code: of the process.
        raw: bytes to print as they are, in place of the page.
    """

    plain: Any
    page: tuple[RenderableType | Hanging, ...] = ()
    exit_code: int = 0
    raw: Iterable[Buffer] | None = None


def print_answer(answer: Answer, *, as_document: bool) -> None:
    """Print an answer on standard output."""
    if as_document:
        sys.stdout.write(as_json(answer.plain) + "\n")
    elif answer.raw is not None:
        for piece in answer.raw:
            sys.stdout.buffer.write(piece)
    else:
        _print_page(answer.page)
    sys.stdout.flush()


def _print_page(page: Iterable[RenderableType | Hanging]) -> None:
    out = console()
    for part in page:
        lines = _rendered(part, out).splitlines()
        sys.stdout.write("".join(f"{_without_blanks_at_its_end(line)}\n" for line in lines))


def _rendered(part: RenderableType | Hanging, out: Console) -> str:
    """Return a part as it is printed; where no terminal reads it, sentences stay in one line."""
    from rich.table import Table
    from rich.text import Text

    if isinstance(part, Hanging):
        return part.wrapped(out.width) if out.is_terminal else str(part)
    with out.capture() as captured:
        if out.is_terminal and isinstance(part, Text):
            out.print(part, no_wrap=True, overflow="ellipsis")
        else:
            shown = printable(part) if isinstance(part, str) else part
            out.print(shown, soft_wrap=not out.is_terminal and not isinstance(part, Table))
    return captured.get()


def _without_blanks_at_its_end(line: str) -> str:
    end = _LINE_END.search(line)
    return line if end is None else line[: end.start()] + "".join(_STYLE.findall(end.group()))


def as_json(plain: Any) -> str:
    """Return plain data as a JSON document; NaN and infinities, which JSON does not know, as text."""
    return json.dumps(_encodable(plain), indent=2, allow_nan=False)


def _encodable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_encodable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)


def console(*, stderr: bool = False, as_terminal: bool | None = None) -> Console:
    """Return where text is printed: 80 columns where it is no terminal, no colours there, nothing highlighted."""
    from rich.console import Console

    return Console(stderr=stderr, force_terminal=as_terminal, highlight=False, emoji=False, markup=False)


def styled(text: str, style: str) -> Text:
    """Return text in a style, which only a terminal shows."""
    from rich.text import Text

    return Text(printable(text), style=style)


def one_line(text: str) -> Text:
    """Return text that is cut where the terminal ends."""
    from rich.text import Text

    return Text(printable(text), no_wrap=True, overflow="ellipsis")


def printable(text: str) -> str:
    """Return text that a terminal shows and does not obey: control characters, as stored text may hold, are named."""
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], text)


def table(*columns: str) -> Table:
    """Return a table without lines, of cells that are `printable`.

    A column's name may begin with ``>``: flush right, or ``*``: as wide as there is. Only those marked ``*`` give way
    where the terminal is narrow.
    """
    from rich.table import Table

    class Rows(Table):
        def add_row(self, *cells: Any, **settings: Any) -> None:
            super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **settings)

    made = Rows(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        name = column.lstrip(">*")
        made.add_column(
            name, justify="right" if column.startswith(">") else "left", no_wrap="*" not in column,
            overflow="fold" if "*" in column else "ellipsis",
        )  # fmt: skip
    return made


def fact_table(pairs: Iterable[tuple[str, str]]) -> Table:
    """Return names and what is to say of each, in two columns; the second is wrapped."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(no_wrap=True, style="bold")
    made.add_column(overflow="fold")
    for name, text in pairs:
        made.add_row(f"  {name}", printable(text))
    return made
