"""What a command answers, and the two forms in which it is printed: for people, and as one JSON document."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from ckptstore.objects import Buffer

__all__ = ["Answer", "as_json", "console", "fact_table", "one_line", "print_answer", "styled", "table"]


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
    page: tuple[RenderableType, ...] = ()
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


def _print_page(page: Iterable[RenderableType]) -> None:
    out = console()
    if out.is_terminal:
        for part in page:
            out.print(part)
        return
    for part in page:  # whoever reads this wants no spaces at the end, and sentences in one line
        with out.capture() as captured:
            out.print(part, soft_wrap=isinstance(part, str))
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


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

    return Text(text, style=style)


def one_line(text: str) -> Text:
    """Return text that is cut where the terminal ends."""
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


def table(*columns: str, title: str | None = None) -> Table:
    """Return a table without lines. A column's name may begin with ``>``: flush right, or ``*``: as wide as there is.

    Only the columns marked ``*`` give way where the terminal is narrow.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=title, title_justify="left",
                 header_style="bold")  # fmt: skip
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
        made.add_row(f"  {name}", text)
    return made
