"""``ckptstore compress`` and ``decompress``: the same checkpoints in less room, and back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckptstore.cli.amounts import count_text, size_text
from ckptstore.cli.answers import Answer, Hanging, table
from ckptstore.cli.command import Call, Words, command
from ckptstore.cli.panels import KEEP
from ckptstore.cli.values import steps_of

if TYPE_CHECKING:
    from ckptstore.compression import CompressReport

__all__ = ["compress", "decompress"]

Steps = Annotated[list[str] | None, typer.Option("--step", metavar="STEP,...", help="Only these steps.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only show what would be done.")]


@command("compress", panel=KEEP, usage="[STORE] [HASH ...]")
def compress(
    call: Call,
    words: Words = None,
    step: Steps = None,
    keep_latest: Annotated[
        int, typer.Option(min=1, metavar="N", help="Leave the latest N of each experiment as they are (default: 1).")
    ] = 1,
    level: Annotated[int, typer.Option(min=1, max=22, metavar="N", help="Of zstandard, 1 to 22 (default: 3).")] = 3,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="Threads that compress.")] = None,
    dry_run: DryRun = False,
) -> Answer:
    """Make old checkpoints smaller; they load as before.

    Nothing is lost. Each is verified before the original goes. Without HASH, in every experiment.
    """
    from ckptstore.compression import compress as compressed

    store, addresses = call.opened(words or [])
    found = compressed(
        store, experiments=call.hashes(store, addresses), steps=steps_of(step) if step else None,
        keep_latest=keep_latest, level=level, workers=workers, dry_run=dry_run, progress=call.progress,
    )  # fmt: skip
    return _answer(found, "compressed")


@command("decompress", panel=KEEP, usage="[STORE] [HASH ...]")
def decompress(call: Call, words: Words = None, step: Steps = None, dry_run: DryRun = False) -> Answer:
    """Give compressed checkpoints their first form back.

    Byte for byte. Without HASH, in every experiment.
    """
    from ckptstore.compression import decompress as decompressed

    store, addresses = call.opened(words or [])
    found = decompressed(
        store, experiments=call.hashes(store, addresses), steps=steps_of(step) if step else None,
        dry_run=dry_run, progress=call.progress,
    )  # fmt: skip
    return _answer(found, "decompressed")


def _answer(found: CompressReport, done: str) -> Answer:
    return Answer(found.as_dict(), tuple(_page(found, done)), exit_code=0 if found.ok else 1)


def _page(found: CompressReport, done: str) -> Iterator[Any]:
    yield found.url
    for exp_hash, group in groupby(found.outcomes, key=lambda outcome: outcome.exp_hash):
        yield f"\n{exp_hash}"
        rows = table("", ">step", ">before", ">after", "*")
        outcomes = list(group)
        for one in outcomes:
            sign = {"changed": done, "finished": done, "kept": "kept", "failed": "FAILED"}[one.action]
            sign = f"  would be {sign}" if found.dry_run and sign == done else f"  {sign}"
            after = "" if found.dry_run or one.action in {"kept", "failed"} else size_text(one.after_bytes)
            said = "" if one.action == "failed" else one.reason
            rows.add_row(sign, str(one.step), size_text(one.before_bytes), after, said)
        yield rows
        for one in outcomes:
            if one.action == "failed":
                yield Hanging(f"step {one.step}: {one.reason.rpartition('cannot be read: ')[2]}", 4, "  ")
    yield f"\n{_verdict(found, done)}"


def _verdict(found: CompressReport, done: str) -> str:
    if not found.outcomes:
        return "there is nothing to look at"
    amount = count_text(len(found.changed), "checkpoint")
    failed = f"; {count_text(len(found.failed), 'checkpoint')} failed and are as they were" if found.failed else ""
    if found.dry_run:
        return f"{amount}, {size_text(found.before_bytes)}, would be {done}{failed}"
    sizes = f"{size_text(found.before_bytes)} -> {size_text(found.after_bytes)}"
    return f"{amount} {done}: {sizes}{failed}"
