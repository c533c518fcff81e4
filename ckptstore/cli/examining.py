"""``ckptstore doctor``: try out a store."""

from __future__ import annotations

from typing import Annotated

import typer

from ckptstore.cli.addresses import WrongUse
from ckptstore.cli.answers import Answer
from ckptstore.cli.command import Call, command
from ckptstore.cli.panels import KEEP

__all__ = ["doctor"]


@command("doctor", panel=KEEP, usage="[STORE]")
def doctor(
    call: Call,
    place: Annotated[
        str | None, typer.Argument(metavar="[STORE]", show_default=False, help="What to examine; it may be new.")
    ] = None,
    limit: Annotated[float, typer.Option(metavar="SECONDS", help="Stop after this time.")] = 120.0,
) -> Answer:
    """Try out a store before training rests on it.

    Writes, reads, lists, creates and deletes below a fresh folder, and measures.
    Sends about 53 MB, receives about 27, and removes everything again. Exit code 1 when something does not work.
    """
    from ckptstore.checkup import doctor as examine

    call.progress.describe("examining")
    try:
        found = examine(call.place(place), limit_s=limit, **call.options)
    except TypeError as error:  # an option that the backend does not know
        raise WrongUse(str(error)) from error
    return Answer(found.as_dict(), (str(found),), exit_code=0 if found.ok else 1)
