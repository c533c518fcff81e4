"""``ckptstore verify``, ``prune`` and ``gc``: is it sound, and what may go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckptstore.cli.addresses import WrongUse
from ckptstore.cli.amounts import age_text, count_text, size_text
from ckptstore.cli.answers import Answer, Hanging, table
from ckptstore.cli.command import Call, OtherOptions, Words, command
from ckptstore.cli.panels import KEEP
from ckptstore.cli.values import best_policy, duration_of, steps_of

if TYPE_CHECKING:
    from datetime import timedelta

    from ckptstore.retention import ExperimentsReport, GarbageReport, Policy, PruneReport
    from ckptstore.retention.planning import Verdict
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
        rows.add_row(
            one.exp_hash, f"{one.objects:,}", size_text(one.size_bytes), size_text(one.read_bytes),
            _state(one.findings, deep=found.deep),
        )  # fmt: skip
    yield ""
    yield rows
    if found.findings:
        yield ""
        yield from _findings(found.findings)
    yield f"\n{_verdict(found)}"


def _state(findings: Sequence[Finding], *, deep: bool) -> str:
    problems = sum(finding.is_problem for finding in findings)
    if problems:
        return count_text(problems, "problem")
    repaired = sum(finding.outcome == "repaired" for finding in findings)
    notes = len(findings) - repaired
    said = "sound" if deep else "nothing missing"
    return said + f", {repaired} repaired" * bool(repaired) + f", {count_text(notes, 'note')}" * bool(notes)


def _findings(findings: Sequence[Finding]) -> Iterator[Any]:
    for finding in findings:
        sign = "PROBLEM" if finding.is_problem else "note   "
        outcome = f" ({finding.outcome})" if finding.outcome else ""
        yield Hanging(f"{finding.kind}{outcome}: {finding.key}", 8, f"{sign} ")
        yield Hanging(finding.detail, 8, " " * 8)
        if finding.repair:
            yield Hanging(f"{finding.outcome}: {finding.repair}", 8, " " * 8)


def _verdict(found: VerifyReport) -> str:
    repaired = sum(one.outcome == "repaired" for one in found.findings)
    done = f"; {repaired} repaired" if repaired else ""
    if found.problems:
        left = "left" if repaired else "found"
        closer = "" if found.deep else "; --deep looks closer"
        mend = "" if any(one.outcome for one in found.problems) else "; --repair-from STORE mends from a mirror"
        return f"{count_text(len(found.problems), 'problem')} {left}{done}{closer}{mend}"
    return f"all is sound{done}" if found.deep else f"nothing is missing{done}; --deep reads and checks every byte"


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
    everything: Annotated[
        bool, typer.Option("--all", help="List every checkpoint, also of experiments where all stay.")
    ] = False,
    yes: Yes = False,
) -> Answer:
    """Delete checkpoints that no rule keeps; only shown without --yes.

    Several ways to keep add up. Whatever is asked, the newest sound checkpoint, the newest three and what was written
    to the store within 24 hours stay. Without HASH every experiment is pruned.
    """
    store, addresses = call.opened(words or [])
    named = call.hashes(store, addresses)
    policies = list(_policies(latest, best or [], every, within, pin or []))
    whole = experiments_latest is not None or experiments_within is not None
    if whole and policies:
        whole_option = "--experiments-latest" if experiments_latest is not None else "--experiments-within"
        keeping = {"--latest": latest, "--best": best, "--every": every, "--within": within, "--pin": pin}
        joined = ", ".join(name for name, value in keeping.items() if value)
        raise WrongUse(f"{whole_option} deletes whole experiments, and cannot be joined with {joined}")
    if not whole and not policies:
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
    return Answer(found.as_dict(), tuple(_prune_page(found, everything=everything)))


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


def _prune_page(found: PruneReport, *, everything: bool) -> Iterator[Any]:
    yield found.url
    blank = "\n"
    for exp_hash, group in groupby(found.verdicts, key=lambda verdict: verdict.exp_hash):
        verdicts = list(group)
        gone = [verdict for verdict in verdicts if not verdict.stays]
        if not gone and not everything:
            yield Hanging(f"{exp_hash}: {_all_stay(verdicts)}", 4, blank)
            blank = ""
            continue
        blank = "\n"
        freed = size_text(sum(verdict.size_bytes for verdict in gone))
        goes = "would go" if found.dry_run else "went"
        yield f"\n{exp_hash}: {len(gone)} of {count_text(len(verdicts), 'checkpoint')} {goes}, {freed}"
        yield _prune_rows(verdicts, "  goes" if found.dry_run else "  gone")
    yield f"\n{_prune_verdict(found, everything=everything)}"


def _all_stay(verdicts: Sequence[Verdict]) -> str:
    """Return that all stay, and the reasons that all of them have."""
    reasons = verdicts[0].why.split("; ")
    common = [reason for reason in reasons if all(reason in verdict.why.split("; ") for verdict in verdicts)]
    number = "its only checkpoint stays" if len(verdicts) == 1 else f"all {len(verdicts):,} checkpoints stay"
    return number + f": {'; '.join(common)}" * bool(common)


def _prune_rows(verdicts: Sequence[Verdict], goes: str) -> Any:
    rows = table("", ">step", ">size", ">age", "*why")
    for verdict in verdicts:
        age = age_text(verdict.saved_at or verdict.modified)
        sign = "  stays" if verdict.stays else goes
        rows.add_row(sign, str(verdict.step), size_text(verdict.size_bytes), age, verdict.why)
    return rows


def _prune_verdict(found: PruneReport, *, everything: bool) -> str:
    if not found.verdicts:
        return "there are no checkpoints"
    if not found.gone:
        return "everything stays" if everything else "everything stays; --all lists it"
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
    found = collect_garbage(store, older_than=duration_of(older_than), dry_run=not yes, progress=call.progress)
    return Answer(found.as_dict(), tuple(_garbage_page(found)))


def _garbage_page(found: GarbageReport) -> Iterator[Any]:
    yield found.url
    if not found.items:
        yield "\nno crash has left anything here"
        return
    yield ""
    for one in found.items:
        sign = "stays" if not one.goes else ("goes" if found.dry_run else "gone")
        size = f"{size_text(one.size_bytes)}, " if one.size_bytes else ""
        yield Hanging(f"{sign:<5}  {one.kind}, {size}{age_text(one.since)} old: {one.key}", 9, "  ")
        yield Hanging(one.why, 9, " " * 9)
    more = "" if all(one.size_bytes for one in found.gone) else " or more"
    amount = f"{count_text(len(found.gone), 'leftover')}, {size_text(found.freed_bytes)}{more}"
    if not found.gone:
        yield "\neverything stays"
    else:
        yield f"\n{amount} would go: {_NOT_DONE}" if found.dry_run else f"\n{amount} removed"
