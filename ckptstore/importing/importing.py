"""Import the checkpoints of an old folder: each into the experiment that its components make."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch

from ckptstore import archive, keys
from ckptstore.architecture import prepare_architecture_if_possible, write_architecture
from ckptstore.checkpoints import CHECKPOINT_FORMAT
from ckptstore.choosing import index_of
from ckptstore.errors import (
    CheckpointNotFound,
    CkptStoreError,
    CorruptCheckpoint,
    IncompatibleCheckpoint,
    UntrustedPickle,
)
from ckptstore.experiment import Experiment
from ckptstore.fitting import model_differences
from ckptstore.hashing import unwrap
from ckptstore.identity import HashOptions, Identity, establish
from ckptstore.importing.contents import OldContents, read_contents, shape_digest
from ckptstore.importing.folder import OldCheckpoint, read_folder
from ckptstore.importing.report import ImportOutcome, ImportReport
from ckptstore.objects import ByteRange
from ckptstore.opening import StoreLike, opened
from ckptstore.progress import Progress, Silent
from ckptstore.saving import plain_metadata
from ckptstore.store import ObjectInfo, Store, redact

__all__ = ["import_checkpoints"]

_RUN_ID = "imported"
_ORIGIN = "imported_from"
_PIECE_BYTES = 8 * 1024 * 1024
_SHOWN_DIFFERENCES = 3


def import_checkpoints(
    old_root: StoreLike,
    store: StoreLike,
    *,
    trusted: bool = False,
    dry_run: bool = False,
    model: torch.nn.Module | None = None,
    config: Any | None = None,
    active_data_uids: Iterable[Any] | None = None,
    ignore: Iterable[str] = (),
    forward_source: bool = True,
    names: Iterable[str] = (),
    progress: Progress | None = None,
) -> ImportReport:
    """Bring the numbered checkpoints of a flat folder, as the older tool wrote them, into experiments of a store.

    A file is a checkpoint where the folder's JSON index names it, or without an index by its name; `importing.folder`
    and `importing.index` say exactly how. What is not understood is listed and left alone. A file holds a state dict,
    a dict with one, or a whole pickled model. The old folder is only read. Imported again, everything is found to be
    present; nothing in the store is ever overwritten.

    A checkpoint's experiment is made of the model, the config and the samples, as `update_experiment_hash` makes it:
    of what is given here, else of what the index says, else of what the file itself holds. Give all three as training
    gives them and it goes on under the same hash. Where neither model nor config is known, names, shapes and dtypes
    of the tensors stand for them. The step is that of the index, else that in the file, else the number.

    Args:
        old_root: the old folder: a path, a URL or an open store.
        store: where to.
        trusted: unpickle whole models, which runs the code that their files ask for.
        dry_run: read everything, write nothing.
        model: whose checkpoints these are; one that does not fit is an error.
        config: of the run.
        active_data_uids: of its samples.
        ignore: config keys that the hash leaves out.
        forward_source: whether the source of ``forward`` counts, as for the manager.
        names: words that may stand before the number in a file's name, besides the usual ones.
        progress: is told of files and their bytes.

    Returns:
        What became of each file; an error with one leaves the others alone.

    Raises:
        CorruptCheckpoint: the index is damaged or ambiguous; nothing was done.
        StoreError: the store failed; what was imported before stays, and importing again goes on from there.
        ConfigTypeError, UnsupportedModel, UnsupportedUID: of what was given.
    """
    options = HashOptions(ignore=tuple(ignore), forward_source=forward_source)
    given = Identity().updated(model, config, active_data_uids, options)
    watcher = progress or Silent()
    with opened(old_root) as source, opened(store) as target:
        folder = read_folder(source, names)
        whole = None if folder.index is None else folder.index.config
        job = _Import(source, target, given, options, model, whole, trusted=trusted, dry_run=dry_run)
        sizes = [old.info.size_bytes for old in folder.checkpoints if old.info is not None]
        watcher.expect(size_bytes=sum(sizes), objects=len(sizes))
        outcomes = []
        for old in folder.checkpoints:
            watcher.describe(old.file)
            outcomes.append(job.outcome_of(old))
            if old.info is not None:
                watcher.advance(size_bytes=old.info.size_bytes, objects=1)
        return ImportReport(redact(source.url), redact(target.url), dry_run, tuple(outcomes), folder.unknown)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A checkpoint that was read and needs only a place."""

    experiment: Experiment
    step: int
    identity: Identity
    model: torch.nn.Module | None
    state: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class _Import:
    source: Store
    target: Store
    given: Identity
    options: HashOptions
    model: torch.nn.Module | None
    config: Mapping[str, Any] | None
    trusted: bool = field(kw_only=True)
    dry_run: bool = field(kw_only=True)
    placed: dict[tuple[str, int], str] = field(default_factory=dict)
    times: list[datetime] = field(default_factory=list)

    def outcome_of(self, old: OldCheckpoint) -> ImportOutcome:
        """Import one checkpoint.

        Raises:
            StoreError: the target failed.
        """
        if old.info is None:
            return ImportOutcome(old.file, "missing", old.entry.step, reason="the index names it; it is not there")
        try:
            contents = read_contents(self.source, old.info, trusted=self.trusted)
            ready = self._ready(old, old.info, contents)
            planned = archive.plan(ready.state)
        except UntrustedPickle as error:
            return ImportOutcome(old.file, "refused", old.entry.step, reason=str(error))
        except CkptStoreError as error:
            return ImportOutcome(old.file, "failed", old.entry.step, reason=str(error))
        return self._place(old.file, ready, planned, contents.left_out)

    def _place(self, file: str, ready: _Ready, planned: archive.Archive, left_out: tuple[str, ...]) -> ImportOutcome:
        exp_hash, step = ready.experiment.exp_hash, ready.step
        there = self._present(ready)
        if there == ready.digest:
            return ImportOutcome(file, "present", step, exp_hash)
        if there is not None:
            reason = "another checkpoint of this step is there, and stays"
            return ImportOutcome(file, "conflict", step, exp_hash, reason)
        self.placed[exp_hash, step] = ready.digest
        if not self.dry_run:
            self._write(ready, planned)
        return ImportOutcome(file, "imported", step, exp_hash, left_out=left_out)

    def _ready(self, old: OldCheckpoint, info: ObjectInfo, contents: OldContents) -> _Ready:
        step = next((known for known in (old.entry.step, contents.step, old.number) if known is not None), None)
        if step is None:
            raise CorruptCheckpoint(f"{old.file} tells no step, and neither do its name and the index")
        if self.model is not None:
            _check_fit(self.model, contents.model_state)
        digest, identity = self._digest(info), self._identity(old, contents)
        origin = {"file": old.file, "number": old.number, "sha256": digest}
        written = old.entry.timestamp or self._written(info)
        state = {
            "format": CHECKPOINT_FORMAT,
            "step": step,
            "exp_hash": identity.exp_hash,
            "timestamp": written,
            "model_state_dict": contents.model_state,
            **{f"{part}_state_dict": value for part, value in contents.parts.items()},
            "metadata": plain_metadata({**contents.metadata, **old.entry.metadata, _ORIGIN: origin}),
            "config": identity.config,
            "run_id": _RUN_ID,
            "resumed_from": None,
        }
        model = contents.model if self.model is None else self.model
        return _Ready(Experiment(self.target, identity.exp_hash), step, identity, model, state, digest)

    def _written(self, info: ObjectInfo) -> str:
        """Return when a file was written, but no earlier than a lower number: copies have lost the order of times."""
        self.times.append(max([info.modified.astimezone(UTC), *self.times[-1:]]))
        return self.times[-1].isoformat(timespec="microseconds")

    def _identity(self, old: OldCheckpoint, contents: OldContents) -> Identity:
        model = contents.model if self.given.model is None else None
        configs = (old.entry.config, self.config, contents.config)
        config = next((known for known in configs if known is not None), None) if self.given.config is None else None
        identity = self.given.updated(model, config, None, self.options)
        if identity.model is not None or identity.config is not None:
            return identity
        return identity.updated(None, {"imported_tensors": shape_digest(contents.model_state)}, None, self.options)

    def _digest(self, info: ObjectInfo) -> str:
        digest = hashlib.sha256()
        ranges = [ByteRange(start, _PIECE_BYTES) for start in range(0, info.size_bytes, _PIECE_BYTES)]
        for data in self.source.get_ranges(info.key, ranges, version=info.version):
            digest.update(data)
        return digest.hexdigest()

    def _present(self, ready: _Ready) -> str | None:
        """Return the digest of the file that was imported to this place; "" where another checkpoint has it."""
        known = self.placed.get((ready.experiment.exp_hash, ready.step))
        if known is not None:
            return known
        try:
            state = index_of(ready.experiment, ready.experiment.checkpoint(ready.step)).state
        except CheckpointNotFound:
            return None
        except CorruptCheckpoint:
            return ""
        metadata = state.get("metadata")
        origin = metadata.get(_ORIGIN) if isinstance(metadata, dict) else None
        return str(origin.get("sha256")) if isinstance(origin, dict) else ""

    def _write(self, ready: _Ready, planned: archive.Archive) -> None:
        experiment, identity = ready.experiment, ready.identity
        establish(experiment, identity, identity.provenance(self.options, None), backup=None, force=False)
        architecture = None if ready.model is None else prepare_architecture_if_possible(ready.model)
        if architecture is not None:
            write_architecture(experiment, architecture)
        self.target.put(keys.checkpoint_key(experiment.exp_hash, ready.step), _Buffers(planned))


class _Buffers:
    """The buffers of an archive, with their size for the store to plan by."""

    def __init__(self, planned: archive.Archive) -> None:
        self.size_bytes = planned.size_bytes
        self._planned = planned

    def __iter__(self) -> Iterator[memoryview]:
        return self._planned.buffers()


def _check_fit(model: torch.nn.Module, saved: Mapping[str, Any]) -> None:
    differences = model_differences(unwrap(model), saved, strict=True)
    if differences:
        shown = "; ".join(differences[:_SHOWN_DIFFERENCES])
        raise IncompatibleCheckpoint(f"it does not fit the model that was given: {shown}", differences)
