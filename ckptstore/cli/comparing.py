"""``ckptstore diff`` and ``ckptstore why``: what differs between two experiments or two checkpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckptstore.cli.addresses import Address, WrongUse
from ckptstore.cli.amounts import count_text, number_text, size_text
from ckptstore.cli.answers import Answer, Hanging, table
from ckptstore.cli.command import Call, OtherOptions, Words, command
from ckptstore.cli.panels import COMPARE

if TYPE_CHECKING:
    from ckptstore.comparing import CheckpointDiff, ExperimentDiff, TensorChange
    from ckptstore.comparing.checkpoints import Verdict
    from ckptstore.experiment import Experiment
    from ckptstore.view import CheckpointView, TensorInfo

__all__ = ["diff", "why"]

_SHOWN = 40
_SHOWN_UIDS = 8
_DIFFERENCES: tuple[Verdict, ...] = ("added", "removed", "reshaped", "retyped", "changed")
_SIGNS = {"added": "+", "removed": "-", "changed": "~", "reshaped": "~", "retyped": "~", "same": "="}

OtherOption = Annotated[
    str | None,
    typer.Option("--other", metavar="PLACE", help="The second one lies in this store.", show_default=False),
]


@command("diff", panel=COMPARE, usage="[STORE] A B")
def diff(
    call: Call,
    words: Words = None,
    other: OtherOption = None,
    other_option: OtherOptions = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read the tensors: how much they changed.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help=f"Show more than {_SHOWN} tensors, and those outside the model.")
    ] = False,
) -> Answer:
    """Compare two experiments, or two checkpoints tensor by tensor.

    A and B are experiments (HASH): architecture by layer, config by path, samples by count and, where they were
    recorded, by UID. Or they are checkpoints (HASH@STEP, HASH@latest): every tensor of the model, and of the state
    of the optimizer and whatever else there is, compared by the CRC32 in their indexes. Nothing is downloaded without
    --deep.
    """
    (first, one), (second, two) = _both(call, words or [], other, other_option)
    if (one.step is None) != (two.step is None):
        raise WrongUse("an experiment and a checkpoint cannot be compared; give HASH twice, or HASH@STEP twice")
    if one.step is not None and two.step is not None:
        return _checkpoints((first, one.step), (second, two.step), call, deep=deep, everything=everything)
    if deep:
        raise WrongUse("--deep compares two checkpoints; give HASH@STEP twice, or HASH@latest")
    from ckptstore.comparing import compare_experiments

    found = compare_experiments(first, second)
    return Answer(found.as_dict(), tuple(_experiment_page(found)))


@command("why", panel=COMPARE, usage="[STORE] A B")
def why(
    call: Call,
    words: Words = None,
    other: OtherOption = None,
    other_option: OtherOptions = None,
) -> Answer:
    """Say in one sentence what made a hash change: that of B, compared with A."""
    from ckptstore.comparing import why as sentence

    (first, one), (second, two) = _both(call, words or [], other, other_option)
    if one.step is not None or two.step is not None:
        raise WrongUse("why explains the hashes of experiments (HASH), not of checkpoints; diff compares those")
    said = sentence(first, second)
    return Answer({"old": first.exp_hash, "new": second.exp_hash, "why": said}, (said,))


def _both(
    call: Call, words: Sequence[str], other: str | None, other_options: Sequence[str] | None
) -> list[tuple[Experiment, Address]]:
    from ckptstore.cli.selection import chosen_experiment, chosen_experiments

    store, addresses = call.opened(words, at_least=2, at_most=2)
    if other is None:
        return list(zip(chosen_experiments(store, addresses), addresses, strict=True))
    stores = store, call.open_other(store, other, other_options)
    return [(chosen_experiment(place, address), address) for place, address in zip(stores, addresses, strict=True)]


def _experiment_page(found: ExperimentDiff) -> Iterator[Any]:
    yield f"{found.old} -> {found.new}\n"
    if found.schemes[0] != found.schemes[1]:
        yield f"hashing scheme: {found.schemes[0]} -> {found.schemes[1]}"
    yield f"architecture: {_differing(len(found.modules), 'module') if found.modules else _state('model', found)}"
    yield from _rows([(change.change, change.path or "(root)", *_forms(change)) for change in found.modules])
    counted = [change for change in found.configs if change.counts]
    yield f"config: {_differing(len(counted), 'value') if counted else _state('config', found)}"
    yield from _rows([(change.change, change.path, change.old, change.new) for change in counted])
    if outside := [change for change in found.configs if not change.counts]:
        yield f"outside the hash: {_differing(len(outside), 'value')}"
        yield from _rows([(change.change, _outer_path(change), change.old, change.new) for change in outside])
    yield from _sample_lines(found)
    for problem in found.problems:
        yield f"problem: {problem}"


def _state(component: str, found: ExperimentDiff) -> str:
    had, has = found.given[component]
    if had != has:
        return "given now" if has else "no longer given"
    if component in found.components:
        return "changed" if found.problems else "changed; the file that would tell how was written over"
    return "the same" if has else "never given"


def _differing(count: int, noun: str) -> str:
    return f"{count_text(count, noun)} {'differs' if count == 1 else 'differ'}"


def _forms(change: Any) -> tuple[Any, Any]:
    same = change.change == "changed" and change.old == change.new
    return (
        (change.old, f"{change.new or 'the same outside'}, other code or arguments")
        if same
        else (change.old, change.new)
    )


def _outer_path(change: Any) -> str:
    return change.path if change.config_name == "config" else f"{change.config_name}: {change.path}"


def _short(old: Any, new: Any) -> tuple[Any, Any]:
    """Return two values with numbers as they are shown elsewhere, as long as that tells them apart."""
    texts = [number_text(value) if isinstance(value, float) else value for value in (old, new)]
    return (old, new) if texts[0] == texts[1] else (texts[0], texts[1])


def _rows(changes: Sequence[tuple[str, str, Any, Any]]) -> Iterator[Any]:
    if not changes:
        return
    rows = table("", "", "*")
    rows.show_header = False
    for change, path, old, new in changes:
        said = f"{old} -> {new}" if change == "changed" else old if change == "removed" else new
        rows.add_row(f"  {_SIGNS[change]}", path, "" if said is None else str(said))
    yield rows


def _sample_lines(found: ExperimentDiff) -> Iterator[Any]:
    change = found.samples
    if change is None:
        yield f"samples: {_state('data', found)}"
        return
    counts = [f"{count:,}" if count is not None else "not given" for count in (change.old_count, change.new_count)]
    yield f"samples: {' -> '.join(counts)}"
    if change.added is None or change.removed is None:
        yield "  which ones is not known: record_uids=True keeps them"
        return
    for sign, uids in (("-", change.removed), ("+", change.added)):
        if uids:
            more = len(uids) - _SHOWN_UIDS
            said = ", ".join(str(uid) for uid in uids[:_SHOWN_UIDS])
            yield Hanging(said + (f" and {more:,} more (--json has all)" if more > 0 else ""), 4, f"  {sign} ")


def _checkpoints(
    one: tuple[Experiment, Any], two: tuple[Experiment, Any], call: Call, *, deep: bool, everything: bool
) -> Answer:
    from ckptstore.comparing import compare_checkpoints

    (old, old_name), (new, new_name) = _opened(*one), _opened(*two)
    found = compare_checkpoints(old, new, deep=deep, progress=call.progress)
    plain = {"old": old_name, "new": new_name, **found.as_dict()}
    page = _checkpoint_page(found, everything=everything)
    return Answer(plain, (f"{old_name} -> {new_name}\n", *page))


def _opened(experiment: Experiment, step: Any) -> tuple[CheckpointView, str]:
    from ckptstore import archive
    from ckptstore.cli.selection import chosen_checkpoint
    from ckptstore.view import CheckpointView

    record = chosen_checkpoint(experiment, step)
    index = archive.read_index(experiment.store, record.info.key, info=record.info)
    return CheckpointView(experiment.store, index), f"{experiment.exp_hash}@{record.step}"


def _checkpoint_page(found: CheckpointDiff, *, everything: bool) -> Iterator[Any]:
    if found.same_content:
        yield "the same content, down to the last byte"
        return
    if found.header:
        yield f"header: {_differing(len(found.header), 'value')}"
        yield from _rows([(change.change, change.path, *_short(change.old, change.new)) for change in found.header])
    yield from _tensor_section("tensors", found.tensors, found, everything=everything)
    for title in dict.fromkeys(_part(change.name) for change in found.other_tensors):
        part = [change for change in found.other_tensors if _part(change.name) == title]
        yield from _tensor_section(title, part, found, everything=everything, shown=0)


def _part(path: str) -> str:
    name = path.partition(".")[0].partition("[")[0]
    return f"{name.removesuffix('_state_dict')} state" if name.endswith("_state_dict") else name


def _tensor_section(
    title: str, changes: Sequence[TensorChange], found: CheckpointDiff, *, everything: bool, shown: int = _SHOWN
) -> Iterator[Any]:
    """Yield how many tensors have which verdict, and those that differ: so many of them, or everything."""
    verdicts = Counter(change.verdict for change in changes)
    counts = [f"{verdicts[verdict]} {verdict}" for verdict in _DIFFERENCES if verdicts[verdict]]
    counts.append(f"{verdicts['same']} {'equal' if found.deep else 'of the same CRC32'}")
    differing = [change for change in changes if change.verdict != "same"]
    rows = differing if everything else differing[:shown]
    hidden = len(differing) - len(rows)
    yield f"{title}: {', '.join(counts)}" + (" (--all lists them)" if hidden and not rows else "")
    if rows:
        yield _tensors(rows, deep=found.deep)
    if hidden and rows:
        yield f"  and {hidden:,} more (--all shows them)"


def _tensors(changes: Sequence[TensorChange], *, deep: bool) -> Any:
    rows = table("", "*tensor", "*what", *([">max change", ">mean"] if deep else [">size"]))
    for change in changes:
        rows.add_row(
            f"  {_SIGNS[change.verdict]}",
            change.name,
            _what(change),
            *(_numbers(change) if deep else [_size(change)]),
        )
    return rows


def _size(change: TensorChange) -> str:
    info = change.new or change.old
    return size_text(info.size_bytes) if info else "-"


def _what(change: TensorChange) -> str:
    forms = [_form(info) for info in (change.old, change.new) if info is not None]
    return " -> ".join(dict.fromkeys(forms))


def _form(info: TensorInfo) -> str:
    return f"{str(info.dtype).removeprefix('torch.')} {list(info.shape)}"


def _numbers(change: TensorChange) -> list[str]:
    if change.distance is None:
        return ["-", "-"]
    return [number_text(change.distance.max_abs), number_text(change.distance.mean_abs)]
