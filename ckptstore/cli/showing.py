"""``ckptstore show``: what a person wants to know of an experiment or a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ckptstore.cli.amounts import age_text, count_text, number_text, size_text, time_text
from ckptstore.cli.answers import Answer, Hanging, fact_table
from ckptstore.cli.command import Call, Words, command
from ckptstore.cli.looking import MetricOption
from ckptstore.cli.panels import LOOK
from ckptstore.cli.values import metric_option
from ckptstore.errors import CheckpointNotFound, CkptStoreError
from ckptstore.objects import redact

if TYPE_CHECKING:
    from ckptstore.checkpoints import CheckpointRecord
    from ckptstore.cli.addresses import Step
    from ckptstore.comparing.metrics import Metric
    from ckptstore.comparing.overviews import Overview
    from ckptstore.experiment import Experiment
    from ckptstore.objects import ObjectInfo
    from ckptstore.provenance import Provenance
    from ckptstore.records import Header

__all__ = ["metadata_text", "show"]

_SHOWN_VALUES = 12


@command("show", panel=LOOK, usage="[STORE] HASH[@STEP]")
def show(
    call: Call,
    words: Words = None,
    metric: MetricOption = None,
) -> Answer:
    """Show an experiment or a checkpoint: when, how far, how good.

    What it is made of, what changed from its parent, its checkpoints, the best of them, and what it takes.
    """
    from ckptstore.cli.selection import chosen_experiment

    store, [address] = call.opened(words or [], at_least=1, at_most=1)
    experiment = chosen_experiment(store, address)
    if address.step is not None:
        return _checkpoint(experiment, address.step)
    call.progress.describe("reading headers")
    return _experiment(experiment, metric_option(metric), call)


def _experiment(experiment: Experiment, metric: Metric | None, call: Call) -> Answer:
    from ckptstore import keys
    from ckptstore.checkpoints import checkpoint_records
    from ckptstore.comparing.overviews import overview, record_or_problem
    from ckptstore.records import RecordCache

    objects = list(experiment.store.list(keys.experiment_prefix(experiment.exp_hash)))
    records = checkpoint_records(objects, experiment.exp_hash)
    headers = RecordCache().headers(experiment.store, records, progress=call.progress)
    provenance = record_or_problem(experiment)
    found = overview(experiment.exp_hash, objects, headers, provenance, metric)
    record = None if isinstance(provenance, str) else provenance
    change = _change(experiment, found.parent)
    config, model = _config(experiment), _model(experiment)
    plain = {
        **found.as_dict(),
        "store": redact(experiment.store.url),
        "change": change,
        "config": config,
        "model": model,
        "record": record and record.as_mapping(),
        "sizes": _sizes(objects),
        "checkpoints": [_record_as_dict(one, header) for one, header in zip(records, headers, strict=True)],
    }
    lines = _experiment_lines(found, record, change, config, model, records, headers, objects)
    return Answer(plain, (f"{experiment.exp_hash} in {redact(experiment.store.url)}\n", fact_table(lines)))


def _experiment_lines(
    found: Overview,
    record: Provenance | None,
    change: str,
    config: Mapping[str, Any] | None,
    model: str,
    records: Sequence[CheckpointRecord],
    headers: Sequence[Header],
    objects: Sequence[ObjectInfo],
) -> Iterator[tuple[str, str]]:
    if found.problem:
        yield "problem", found.problem
    if record is not None:
        versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
        yield (
            "created",
            f"{_when(found)}\n{versions}" + (f", commit {record.git_commit[:12]}" if record.git_commit else ""),
        )
    if found.parent:
        yield "parent", f"{found.parent}\n{change}"
    if model:
        yield "model", model
    if config is not None:
        yield "config", _values_text(config) or "empty"
    if found.sample_count is not None:
        yield "samples", f"{found.sample_count:,}"
    if records:
        yield "checkpoints", "\n".join(_checkpoints_text(found, records, headers))
    else:
        yield "checkpoints", "none yet"
    if found.best:
        yield "best", f"{found.best.metric} {number_text(found.best.value)} at step {found.best.step}"
    yield from _unsound_lines(records, headers)
    sizes = ", ".join(f"{name} {size_text(size)}" for name, size in _sizes(objects).items())
    yield "size", f"{size_text(found.size_bytes)} in {count_text(found.objects, 'object')}: {sizes}"


def _checkpoints_text(
    found: Overview, records: Sequence[CheckpointRecord], headers: Sequence[Header]
) -> Iterator[str]:
    runs = len({header.run_id for header in headers if header.run_id})
    steps = f"steps {records[0].step} to {records[-1].step}" if len(records) > 1 else f"step {records[0].step}"
    yield f"{len(records):,}, {steps}" + (f", {count_text(runs, 'run')}" if runs else "")
    readable = [
        (header.saved_at or record.modified, header)
        for record, header in zip(records, headers, strict=True)
        if header.condition == "sound"
    ]
    if readable:
        saved_at, last = max(readable, key=lambda one: one[0])
        yield f"the last saved {age_text(saved_at)} ago: {metadata_text(last.metadata)}"
    else:
        yield f"the last written {age_text(found.saved_at)} ago; what they say of themselves cannot be read"


def _unsound_lines(records: Sequence[CheckpointRecord], headers: Sequence[Header]) -> Iterator[tuple[str, str]]:
    for record, header in zip(records, headers, strict=True):
        if header.condition != "sound":
            label = "problem" if header.condition == "damaged" else "note"
            named = "" if header.condition == "foreign" else f" is {header.condition}"
            yield label, f"step {record.step}{named}: {_reason(header)}"


def _reason(header: Header) -> str:
    return header.detail.rpartition("cannot be read: ")[2]


def _when(found: Overview) -> str:
    return f"{time_text(found.created_at)}, {age_text(found.created_at)} ago"


def _change(experiment: Experiment, parent: str | None) -> str:
    from ckptstore.comparing.experiments import compare_experiments
    from ckptstore.comparing.sentences import phrase
    from ckptstore.experiment import Experiment

    if parent is None:
        return ""
    other = Experiment(experiment.store, parent)
    try:
        return phrase(compare_experiments(other, experiment))
    except CheckpointNotFound:
        return other.why_no_record()
    except CkptStoreError as error:
        return f"cannot be compared: {error}"


def _config(experiment: Experiment) -> dict[str, Any] | None:
    try:
        return experiment.read_config()
    except CkptStoreError:
        return None


def _model(experiment: Experiment) -> str:
    """Return the class and the number of parameters, from the printed architecture; "" where there is none."""
    from ckptstore import keys
    from ckptstore.companions import open_text

    key = keys.architecture_text_key(experiment.exp_hash)
    try:
        lines = open_text(experiment.store.get(key), experiment.where(key)).strip().splitlines()
    except CkptStoreError:
        return ""
    count = lines[-1].partition(": ")[2] if lines and lines[-1].startswith("parameters: ") else ""
    name = lines[0].partition("(")[0] if lines else ""
    return f"{name}, {count} parameters" if count else name


def _sizes(objects: Sequence[ObjectInfo]) -> dict[str, int]:
    from ckptstore import keys

    sizes: dict[str, int] = {}
    for info in objects:
        folder = info.key.split("/")[2]
        parsed = keys.parse_key(info.key)
        name = "checkpoints" if parsed and parsed.step is not None else {"hp": "config"}.get(folder, folder)
        sizes[name] = sizes.get(name, 0) + info.size_bytes
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _values_text(values: Mapping[str, Any]) -> str:
    from ckptstore.comparing.values import leaves

    said = [f"{path} {value}" for path, value in leaves(values)]
    more = len(said) - _SHOWN_VALUES
    return ", ".join(said[:_SHOWN_VALUES]) + (f" and {more} more" if more > 0 else "")


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Return metadata in one line."""
    from ckptstore.comparing.values import leaves

    shown = [
        f"{path} {number_text(value) if isinstance(value, float) else value}" for path, value in leaves(metadata)
    ]
    more = len(shown) - _SHOWN_VALUES
    return (", ".join(shown[:_SHOWN_VALUES]) or "no metadata") + (f" and {more} more" if more > 0 else "")


def _record_as_dict(record: CheckpointRecord, header: Header) -> dict[str, Any]:
    return {
        "step": record.step,
        "key": record.info.key,
        "size_bytes": record.info.size_bytes,
        "saved_at": header.saved_at or record.modified,
        "condition": header.condition,
        "detail": header.detail,
        "run_id": header.run_id,
        "resumed_from": header.resumed_from,
        "metadata": dict(header.metadata),
    }


def _checkpoint(experiment: Experiment, step: Step) -> Answer:
    from ckptstore.cli.selection import chosen_checkpoint
    from ckptstore.records import read_header

    record = chosen_checkpoint(experiment, step)
    header = read_header(experiment.store, record)
    plain = {
        "exp_hash": experiment.exp_hash,
        "store": redact(experiment.store.url),
        **_record_as_dict(record, header),
    }
    title = f"{experiment.exp_hash}@{record.step} in {redact(experiment.store.url)}"
    page = (title, Hanging(record.info.key, 0), "", fact_table(_checkpoint_lines(record, header)))
    return Answer(plain, page, exit_code=int(header.condition != "sound"))


def _checkpoint_lines(record: CheckpointRecord, header: Header) -> Iterator[tuple[str, str]]:
    if header.condition != "sound":
        named = "" if header.condition == "foreign" else f"{header.condition}: "
        yield "problem", f"{named}{_reason(header)}"
    saved_at = header.saved_at or record.modified
    yield "saved", f"{time_text(saved_at)}, {age_text(saved_at)} ago"
    yield "size", size_text(record.info.size_bytes) + (" (compressed)" if record.compressed else "")
    if header.condition == "sound":
        yield "metadata", metadata_text(header.metadata)
    if header.run_id:
        yield "run", header.run_id
    if header.resumed_from:
        resumed = header.resumed_from
        yield "resumed", f"from {resumed.get('exp_hash')}@{resumed.get('step')}"
    if header.digest:
        yield "digest", header.digest
