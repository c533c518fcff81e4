"""``ckptstore mirror``, ``export`` and ``import``: from one place to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ckptstore.cli.addresses import WrongUse, parse_address
from ckptstore.cli.amounts import count_text, size_text
from ckptstore.cli.answers import Answer, Hanging, table
from ckptstore.cli.command import Call, OtherOptions, Words, command
from ckptstore.cli.panels import MOVE
from ckptstore.errors import MirrorIncomplete

if TYPE_CHECKING:
    from ckptstore.mirroring import Conflict, MirrorReport
    from ckptstore.mirroring.report import Failure

__all__ = ["mirror"]

_SHOWN = 12
_PROOFS = {"checksum": "checksum", "read back": "reading back", "ending": "the digest at the end"}


@command("mirror", panel=MOVE, usage="[SRC] DST")
def mirror(  # one argument for each option
    call: Call,
    words: Words = None,
    exp: Annotated[
        list[str] | None, typer.Option(metavar="HASH", help="Only this experiment; may be repeated.")
    ] = None,
    latest: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the latest N checkpoints of each.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only show what would be done.")] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete from the mirrored experiments in DST what SRC does not hold.")
    ] = False,
    checksum: Annotated[
        bool, typer.Option("--checksum", help="Compare by reading everything on both sides.")
    ] = False,
    with_data: Annotated[bool, typer.Option("--with-data", help="Also the global data/ folder.")] = False,
    with_logs: Annotated[bool, typer.Option("--with-logs", help="Also the global logs/ folder.")] = False,
    on_conflict: Annotated[
        Literal["stop", "source", "target", "newer"],
        typer.Option(
            metavar="WHO", help="Where one key has two contents: stop (default), or who wins: source, target, newer."
        ),
    ] = "stop",
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="Objects in flight at a time.")] = None,
    other_option: OtherOptions = None,
) -> Answer:
    """Make another store hold the same experiments.

    Whole experiments with their checkpoints, verified on arrival. Run again, it copies only what is new or differs;
    killed at any moment, it goes on. SRC is left out where the store is set otherwise. Exit code 1 when an object did
    not arrive, or when two contents under one key stopped it.
    """
    from ckptstore.cli.selection import chosen_experiments
    from ckptstore.mirroring import mirror as mirrored

    words = words or []
    if not 1 <= len(words) <= 2:
        raise WrongUse(f"{len(words)} places were given; mirror takes a source and a target")
    source = call.open(call.place(words[0] if len(words) == 2 else None))
    target = call.open_other(source, words[-1], other_option, may_be_new=True)
    addresses = [parse_address(word) for word in exp or []]
    if None in addresses or any(address and address.step is not None for address in addresses):
        raise WrongUse("--exp takes a hash, 4 or more hex digits")
    chosen = [one.exp_hash for one in chosen_experiments(source, [address for address in addresses if address])]
    settings: dict[str, Any] = {} if workers is None else {"workers": workers}
    try:
        found: MirrorReport = mirrored(
            source, target, experiments=chosen if exp else None, latest=latest, dry_run=dry_run, delete=delete,
            checksum=checksum, with_data=with_data, with_logs=with_logs, on_conflict=on_conflict,
            progress=call.progress, **settings,
        )  # fmt: skip
    except MirrorIncomplete as error:
        if error.report is None:
            raise
        found = error.report
    return Answer(found.as_dict(), tuple(_mirror_page(found)), exit_code=0 if found.ok else 1)


def _mirror_page(found: MirrorReport) -> Iterator[Any]:
    yield f"{found.source} -> {found.target}\n"
    did, deleted = ("would copy", "would delete") if found.dry_run else ("copied", "deleted")
    rows = table("", ">objects", ">size", "")
    rows.show_header = False
    rows.add_row(f"  {did}", f"{len(found.transferred):,}", size_text(found.transferred_bytes), _rate(found))
    if found.removed:
        rows.add_row(f"  {deleted}", f"{len(found.removed):,}", size_text(found.removed_bytes))
    rows.add_row("  equal", f"{found.same_objects:,}", size_text(found.same_bytes))
    yield rows
    if found.ancestors:
        came = "would come" if found.dry_run else "came"
        named = f"{count_text(len(found.ancestors), 'ancestor')} {came} along as records"
        yield Hanging(f"{named}: {', '.join(found.ancestors)}", 2, "\n")
    yield from _listed("replaced", [one.key for one in found.transferred if one.replaced])
    yield from _listed("conflict: other content in the target", [_conflict(one) for one in found.conflicts])
    yield from _listed("left as the target has it", [_conflict(one) for one in found.kept])
    yield from _listed("FAILED", [f"{one.key}: {_error(one)}" for one in found.failures])
    yield from _listed("deleted from the source meanwhile", found.gone)
    yield from _listed("not ours, left alone", found.foreign)
    yield from _listed("note", found.notes)
    yield f"\n{_mirror_verdict(found)}"


def _rate(found: MirrorReport) -> str:
    if found.dry_run or not found.transferred:
        return ""
    verified = sorted({_PROOFS[one.proof] for one in found.transferred if one.proof})
    speed = size_text(int(found.transferred_bytes / max(found.seconds, 1e-3)))
    return f"in {found.seconds:.1f} s, {speed}/s" + (f", verified by {' and '.join(verified)}" if verified else "")


def _error(one: Failure) -> str:
    """Return what happened, without the key, which stands before it."""
    named, found, rest = one.error.partition(f"'{one.key}' ")
    return rest.partition(": ")[2] or one.error if found and named.startswith("cannot ") else one.error


def _conflict(one: Conflict) -> str:
    sizes = f"{size_text(one.source_bytes)} in the source, {size_text(one.target_bytes)} in the target"
    return f"{one.key}: {sizes}" + (f"; {one.reason}" if one.reason else "")


def _mirror_verdict(found: MirrorReport) -> str:
    if found.conflicts:
        return "stopped, and nothing was changed: --on-conflict source, target or newer says who wins"
    if found.failures:
        return f"{count_text(len(found.failures), 'object')} did not arrive; run it again to go on"
    if found.dry_run:
        return "nothing was changed: a dry run"
    holds = "the target holds all that was asked for"
    if found.kept:
        they = "it has it" if len(found.kept) == 1 else "it has them"
        holds = f"{holds}, but {count_text(len(found.kept), 'object')}, left as {they}"
    return holds if found.transferred or found.removed else f"nothing to do: {holds}"


def _listed(title: str, lines: Sequence[str]) -> Iterator[Any]:
    if lines:
        yield f"\n{title}:"
        yield from (Hanging(line, 4, "  ") for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"  and {len(lines) - _SHOWN:,} more (--json lists all)"
