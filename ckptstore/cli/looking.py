"""``ckptstore ls`` and ``ckptstore log``: what there is, and how it came about."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckptstore.cli.addresses import stores_below
from ckptstore.cli.amounts import age_text, count_text, number_text, size_text
from ckptstore.cli.answers import Answer, Hanging, console, one_line, styled, table
from ckptstore.cli.command import Call, Words, command
from ckptstore.cli.panels import LOOK
from ckptstore.cli.values import metric_option
from ckptstore.errors import CheckpointNotFound, CkptStoreError
from ckptstore.objects import redact

if TYPE_CHECKING:
    from ckptstore.comparing.overviews import Branch, Overview
    from ckptstore.experiment import Experiment
    from ckptstore.store import Store

__all__ = ["best_text", "log", "ls", "steps_text"]

_MOST_HEADERS = 1_000
_READERS = 16
_MOST_FOLDERS = 20
_DEEPEST = 12

MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric", metavar="NAME[:min|max]", help="Which number of the metadata tells the best checkpoint."
    ),
]


@command("ls", panel=LOOK, usage="[STORE] [HASH]")
def ls(
    call: Call,
    words: Words = None,
    metric: MetricOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not look into checkpoints: no best metric.")] = False,
) -> Answer:
    """List experiments, or the objects of one.

    The best metric is read from the last bytes of each checkpoint, and remembered on this machine.
    """
    from ckptstore.cli.selection import chosen_experiment

    store, addresses = call.opened(words or [], at_most=1)
    if addresses:
        return _objects(chosen_experiment(store, addresses[0]))
    from ckptstore.comparing.overviews import overviews

    call.progress.describe("reading headers")
    found = overviews(
        store, metric=metric_option(metric), most_headers=0 if quick else _MOST_HEADERS if metric is None else None,
        progress=call.progress,
    )  # fmt: skip
    found.sort(key=lambda one: (one.created_at is not None, one.created_at, one.exp_hash))
    plain = {"store": redact(store.url), "experiments": [one.as_dict() for one in found]}
    return Answer(plain, tuple(_page(store, found)) if found else _nothing_yet(store))


def _page(store: Store, found: Sequence[Overview]) -> Iterator[Any]:
    size = size_text(sum(one.size_bytes for one in found))
    yield f"{redact(store.url)}: {count_text(len(found), 'experiment')}, {size}\n"
    rows = table("experiment", ">created", ">saved", "checkpoints", ">size", "*best")
    for one in found:
        rows.add_row(
            one.exp_hash, age_text(one.created_at), age_text(one.saved_at), steps_text(one.steps),
            size_text(one.size_bytes), best_text(one),
        )  # fmt: skip
    yield rows
    problems = [Hanging(f"{one.exp_hash}: {one.problem}", 4) for one in found if one.problem]
    yield from ["", *problems] if problems else []
    checkpoints = sum(len(one.steps) for one in found)
    if checkpoints > _MOST_HEADERS and not any(one.best for one in found):
        yield f"\nbest: not looked for in {checkpoints:,} checkpoints; --metric NAME does"


def _nothing_yet(store: Store) -> tuple[str, ...]:
    place = redact(store.url).removeprefix("file://")
    below = [str(folder) for folder in stores_below(Path(place))] if "://" not in place else list(_prefixes(store))
    if below:
        return (f"{redact(store.url)}: no experiments here, but in {', '.join(below[:5])}",)
    return (
        f"{redact(store.url)}: no experiments yet\n",
        "A training program makes them:\n",
        f"    manager = CheckpointManagerV2({place!r})",
        "    manager.update_experiment_hash(model, config, active_data_uids)",
        "    manager.save_model_checkpoint(model, step=100, metadata={'loss': 0.1})\n",
        "`ckptstore doctor` tries out whether the store keeps what training needs.",
    )


def _prefixes(store: Store) -> Iterator[str]:
    """Yield the folders of a bucket, of the first ones in it, that hold experiments."""
    from ckptstore.keys import CHECKPOINTS

    for prefix in islice(store.list_prefixes(), _MOST_FOLDERS):
        if any(store.list_prefixes(prefix + CHECKPOINTS)):
            yield f"{redact(store.url)}/{prefix}".rstrip("/")


def steps_text(steps: Sequence[int]) -> str:
    """Return how many checkpoints there are, and the highest step."""
    if not steps:
        return "-"
    return f"{len(steps):,}, to {steps[-1]}" if len(steps) > 1 else f"1, at {steps[0]}"


def best_text(one: Overview) -> str:
    """Return the best metric, its value and its step."""
    return (
        f"{one.best.metric} {number_text(one.best.value)} @{one.best.step}"
        if one.best
        else (one.problem and "!") or "-"
    )


def _objects(experiment: Experiment) -> Answer:
    from ckptstore import keys

    prefix = keys.experiment_prefix(experiment.exp_hash)
    found = list(experiment.store.list(prefix))
    rows = table("object", "kind", ">size", ">age")
    plain = []
    for info in found:
        parsed = keys.parse_key(info.key)
        kind = "not ours" if parsed is None else str(parsed.kind)
        rows.add_row(info.key.removeprefix(prefix), kind, size_text(info.size_bytes), age_text(info.modified))
        plain.append({"key": info.key, "kind": kind, "step": parsed and parsed.step, "size_bytes": info.size_bytes,
                      "modified": info.modified})  # fmt: skip
    size = size_text(sum(info.size_bytes for info in found))
    title = f"{experiment.store.path(prefix.removesuffix('/'))}: {count_text(len(found), 'object')}, {size}\n"
    return Answer({"exp_hash": experiment.exp_hash, "objects": plain}, (title, rows))


@command("log", panel=LOOK, usage="[STORE]")
def log(
    call: Call,
    words: Words = None,
    metric: MetricOption = None,
) -> Answer:
    """Show the tree of experiments: which came out of which, and why.

    Each has its age, its checkpoints, the best of them, and what changed from its parent.
    """
    from ckptstore.comparing.overviews import lineage

    store, _ = call.opened(words or [], at_most=0)
    call.progress.describe("reading headers")
    trees = lineage(store, metric=metric_option(metric), progress=call.progress)
    if not trees:
        return Answer({"store": redact(store.url), "experiments": []}, _nothing_yet(store))
    phrases = _phrases(store, trees)
    plain = {"store": redact(store.url), "experiments": [_as_dict(branch, phrases) for branch in trees]}
    return Answer(plain, (f"{redact(store.url)}\n", *_drawn(trees, phrases)))


def _phrases(store: Store, trees: Sequence[Branch]) -> dict[str, str]:
    """Return what changed from its parent for each experiment whose parent is in the store."""
    edges = [edge for branch in trees for edge in _edges(branch)]
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(lambda edge: _phrase(store, *edge), edges)
        return dict(zip([child for _, child in edges], found, strict=True))


def _edges(branch: Branch) -> Iterator[tuple[str, str]]:
    for child in branch.children:
        yield branch.experiment.exp_hash, child.experiment.exp_hash
        yield from _edges(child)


def _phrase(store: Store, parent: str, child: str) -> str:
    from ckptstore.comparing.experiments import compare_experiments
    from ckptstore.comparing.sentences import phrase
    from ckptstore.experiment import Experiment

    other = Experiment(store, parent)
    try:
        return phrase(compare_experiments(other, Experiment(store, child)))
    except CheckpointNotFound:
        return f"cannot be compared with {parent}: {other.why_no_record()}"
    except CkptStoreError as error:
        return f"cannot be compared: {error}"


def _as_dict(branch: Branch, phrases: dict[str, str]) -> dict[str, Any]:
    return {
        **branch.experiment.as_dict(),
        "change": phrases.get(branch.experiment.exp_hash),
        "children": [_as_dict(child, phrases) for child in branch.children],
    }


def _drawn(trees: Sequence[Branch], phrases: dict[str, str]) -> Iterator[Any]:
    rows = [row for branch in trees for row in _rows(branch, phrases, "", "")]
    width = max(len(row[0]) for row in rows if len(row) > 1)
    page = console().width
    yield styled(f"{'experiment':<{width}}  {'created':>7}  {'checkpoints':<11}  best", "bold")
    for first, *columns in rows:
        if columns:
            created, checkpoints, best = columns
            yield one_line(f"{first:<{width}}  {created:>7}  {checkpoints:<11}  {best}")
        else:
            head = first[: len(first) - len(first.lstrip("│ "))]
            text = first.removeprefix(head)
            yield "\n".join(textwrap.wrap(text, page - 1, initial_indent=head, subsequent_indent=head))


def _rows(branch: Branch, phrases: dict[str, str], head: str, below: str) -> Iterator[tuple[str, ...]]:
    one = branch.experiment
    yield f"{head}{one.exp_hash}", age_text(one.created_at), steps_text(one.steps), best_text(one)
    change = phrases.get(one.exp_hash) or (f"out of {one.parent}, which is not here" if one.parent else "")
    if change:
        yield (f"{below}{'│ ' if branch.children else '  '}{change}",)
    indent = below if len(below) < 2 * _DEEPEST else below[2:]
    for child in branch.children:
        ends = child is branch.children[-1]
        yield from _rows(child, phrases, f"{indent}{'└ ' if ends else '├ '}", f"{indent}{'  ' if ends else '│ '}")
