"""``ckptstore verify``, ``prune`` and ``gc``: is it sound, and what may go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckptstore.cli.addresses import WrongUse
from ckptstore.cli.amounts import age_text, count_text, size_text
from ckptstore.cli.answers import Answer, table
from ckptstore.cli.command import Call, OtherOptions, Words, command
from ckptstore.cli.panels import KEEP
from ckptstore.cli.values import best_policy, duration_of, steps_of

if TYPE_CHECKING:
    from datetime import timedelta

    from ckptstore.retention import ExperimentsReport, GarbageReport, Policy, PruneReport
    from ckptstore.verifying import Finding, VerifyReport

__all__ = ["gc", "prune", "verify"]

_NOT_DONE = "nothing was deleted; --yes does it"

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it. Without this nothing is deleted, only shown.")]


@command("verify", panel=KEEP, usage="[STORE] [HASH ...]")
def verify(
    call: Call,
    words: Words = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte and check it, not only listings.")] = False,
    repair_from: Annotated[
        str | None,
        typer.Option("--repair-from", metavar="PLACE", help="A store that holds sound copies: mend with them."),
    ] = None,
    other_option: OtherOptions = None,
) -> Answer:
    """Find what is damaged or missing; repair it from a mirror.

    Without HASH every experiment is looked at. Exit code 1 when a problem is left.
    """
    from ckptstore.verifying import verify as examined

    store, addresses = call.opened(words or [])
    other = None if repair_from is None else call.open_other(store, repair_from, other_option)
    found = examined(
        store, experiments=call.hashes(store, addresses), deep=deep, repair_from=other, progress=call.progress
    )
    return Answer(found.as_dict(), tuple(_verify_page(found)), exit_code=0 if found.ok else 1)


def _verify_page(found: VerifyReport) -> Iterator[Any]:
    objects = sum(one.objects for one in found.experiments)
    yield (
        f"{found.url}: {count_text(len(found.experiments), 'experiment')}, {count_text(objects, 'object')}, "
        f"{size_text(sum(one.size_bytes for one in found.experiments))}"
    )
    rows = table("experiment", ">objects", ">size", ">read", "found")
    for one in found.experiments:
        problems = sum(finding.is_problem for finding in one.findings)
        said = count_text(problems, "problem") if problems else "sound" if found.deep else "nothing missing"
        rows.add_row(one.exp_hash, f"{one.objects:,}", size_text(one.size_bytes), size_text(one.read_bytes), said)
    yield ""
    yield rows
    if found.findings:
        yield ""
        yield from _findings(found.findings)
    yield f"\n{_verdict(found)}"


def _findings(findings: Sequence[Finding]) -> Iterator[Any]:
    for finding in findings:
        outcome = f" ({finding.outcome})" if finding.outcome else ""
        yield f"{'PROBLEM' if finding.is_problem else 'note   '} {finding.kind}{outcome}: {finding.key}"
        yield f"        {finding.detail}"


def _verdict(found: VerifyReport) -> str:
    if found.problems:
        closer = "" if found.deep else "; --deep looks closer"
        mend = "" if any(one.outcome for one in found.problems) else "; --repair-from STORE mends from a mirror"
        return f"{count_text(len(found.problems), 'problem')} found{closer}{mend}"
    return "all is sound" if found.deep else "nothing is missing; --deep reads and checks every byte"


@command("prune", panel=KEEP, usage="[STORE] [HASH ...]")
def prune(  # one argument for each option
    call: Call,
    words: Words = None,
    latest: Annotated[int | None, typer.Option(min=1, metavar="N", help="Keep the latest N checkpoints.")] = None,
    best: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:min|max][:N]", help="Keep the best N (1) by a number of the metadata."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Keep every step that is a multiple of N.")
    ] = None,
    within: Annotated[str | None, typer.Option(metavar="TIME", help="Keep what is younger: 12h, 7d, 2w.")] = None,
    pin: Annotated[list[str] | None, typer.Option(metavar="STEP,...", help="Keep these steps.")] = None,
    experiments_latest: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Delete whole experiments, but not the N written to last.")
    ] = None,
    experiments_within: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Delete whole experiments that were not written to for this long."),
    ] = None,
    yes: Yes = False,
) -> Answer:
    """Delete checkpoints that no rule keeps; only shown without --yes.

    Several ways to keep add up. Whatever is asked, the newest sound checkpoint, the newest three and what is younger
    than 24 hours stay. Without HASH every experiment is pruned.
    """
    store, addresses = call.opened(words or [])
    named = call.hashes(store, addresses)
    policies = list(_policies(latest, best or [], every, within, pin or []))
    whole = experiments_latest is not None or experiments_within is not None
    if whole == bool(policies):
        raise WrongUse("say what to keep: --latest, --best, --every, --within, --pin; or, alone, --experiments-...")
    if whole:
        from ckptstore.retention import prune_experiments

        gone = prune_experiments(
            store, keep_latest=experiments_latest, older_than=_time(experiments_within), experiments=named,
            dry_run=not yes, progress=call.progress,
        )  # fmt: skip
        return Answer(gone.as_dict(), tuple(_experiments_page(gone)))
    from ckptstore.retention import Union
    from ckptstore.retention import prune as pruned

    keep: Policy = policies[0] if len(policies) == 1 else Union(tuple(policies))
    found = pruned(store, keep, experiments=named, dry_run=not yes, progress=call.progress)
    return Answer(found.as_dict(), tuple(_prune_page(found)))


def _policies(
    latest: int | None, best: Sequence[str], every: int | None, within: str | None, pin: Sequence[str]
) -> Iterator[Policy]:
    from ckptstore.retention import EverySteps, Latest, Pinned, WithinAge

    if latest is not None:
        yield Latest(latest)
    yield from map(best_policy, best)
    if every is not None:
        yield EverySteps(every)
    if within is not None:
        yield WithinAge(duration_of(within))
    if pin:
        yield Pinned(steps_of(pin))


def _time(text: str | None) -> timedelta | None:
    return None if text is None else duration_of(text)


def _prune_page(found: PruneReport) -> Iterator[Any]:
    yield found.url
    for exp_hash, group in groupby(found.verdicts, key=lambda verdict: verdict.exp_hash):
        verdicts = list(group)
        gone = [verdict for verdict in verdicts if not verdict.stays]
        freed = size_text(sum(verdict.size_bytes for verdict in gone))
        goes = "would go" if found.dry_run else "went"
        yield f"\n{exp_hash}: {len(gone)} of {count_text(len(verdicts), 'checkpoint')} {goes}, {freed}"
        rows = table("", ">step", ">size", ">age", "*why")
        for verdict in verdicts:
            sign = "  stays" if verdict.stays else ("  goes" if found.dry_run else "  gone")
            rows.add_row(
                sign, str(verdict.step), size_text(verdict.size_bytes), age_text(verdict.modified), verdict.why
            )
        yield rows
    yield f"\n{_prune_verdict(found)}"


def _prune_verdict(found: PruneReport) -> str:
    if not found.verdicts:
        return "there are no checkpoints"
    if not found.gone:
        return "everything stays"
    amount = f"{count_text(len(found.gone), 'checkpoint')}, {size_text(found.freed_bytes)}"
    return f"{amount} would go: {_NOT_DONE}" if found.dry_run else f"{amount} deleted"


def _experiments_page(found: ExperimentsReport) -> Iterator[Any]:
    yield f"{found.url}\n"
    rows = table("", "experiment", ">objects", ">size", ">written", "*why")
    for one in found.verdicts:
        sign = "stays" if one.stays else ("goes" if found.dry_run else "gone")
        rows.add_row(sign, one.exp_hash, str(one.objects), size_text(one.size_bytes), age_text(one.modified), one.why)
    yield rows
    amount = f"{count_text(len(found.gone), 'experiment')}, {size_text(found.freed_bytes)}"
    if not found.gone:
        yield "\neverything stays"
    else:
        yield f"\n{amount} would go: {_NOT_DONE}" if found.dry_run else f"\n{amount} deleted"


@command("gc", panel=KEEP, usage="[STORE]")
def gc(
    call: Call,
    words: Words = None,
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="Only what is older: 12h, 7d (default: 1d).")
    ] = "1d",
    yes: Yes = False,
) -> Answer:
    """Remove what crashes left behind; only shown without --yes.

    Unfinished uploads, and what stands beside a sound object by mistake.
    """
    from ckptstore.retention import collect_garbage

    store, _ = call.opened(words or [], at_most=0)
    found = collect_garbage(store, older_than=duration_of(older_than), dry_run=not yes)
    return Answer(found.as_dict(), tuple(_garbage_page(found)))


def _garbage_page(found: GarbageReport) -> Iterator[Any]:
    yield found.url
    if not found.items:
        yield "\nno crash has left anything here"
        return
    rows = table("", "what", ">size", ">age", "*key, and why")
    for one in found.items:
        sign = "  stays" if not one.goes else ("  goes" if found.dry_run else "  gone")
        size = size_text(one.size_bytes) if one.size_bytes else "?"
        rows.add_row(sign, one.kind, size, age_text(one.since), f"{one.key}\n{one.why}")
    yield rows
    amount = f"{count_text(len(found.gone), 'leftover')}, {size_text(found.freed_bytes)} or more"
    if not found.gone:
        yield "\neverything stays"
    else:
        yield f"\n{amount} would go: {_NOT_DONE}" if found.dry_run else f"\n{amount} removed"
