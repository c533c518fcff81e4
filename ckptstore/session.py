"""What a manager knows from one call to the next: the current experiment, and where this run came from."""

from __future__ import annotations

import dataclasses
import threading
import uuid
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ckptstore import keys
from ckptstore.architecture import PreparedArchitecture, prepare_architecture_if_possible
from ckptstore.backups import BackupSource
from ckptstore.distributed import on_writer
from ckptstore.errors import CheckpointNotFound, CorruptCheckpoint, NewerFormat, NoExperiment
from ckptstore.experiment import CheckpointRecord, Experiment, list_hashes
from ckptstore.hashing import describe_model
from ckptstore.identity import HashOptions, Identity, establish
from ckptstore.notices import warn
from ckptstore.provenance import Provenance
from ckptstore.resuming import descends_from, nothing_to_resume
from ckptstore.retention.in_use import forget_current, note_current, note_resumed
from ckptstore.saving import Origin, Signature
from ckptstore.store import Store, redact

_SHOWN_HASHES = 20


class Session:
    """The current experiment of one manager in one store, and the history of its run.

    Attributes:
        store: where everything lies.
        run_id: 32 hex digits that mark the checkpoints of this run.
        exp_hash: the current experiment; None before the first `update`.
        config_in_effect: what checkpoints record as their config, in its plain form.
    """

    def __init__(self, store: Store, options: HashOptions, *, parent: str | None, writer_rank: int) -> None:
        self.store = store
        self.run_id = uuid.uuid4().hex
        self.exp_hash: str | None = None
        self.config_in_effect: Mapping[str, Any] | None = None
        self._options = options
        self._writer_rank = writer_rank
        self._identity = Identity()
        self._parent = None if parent is None else keys.check_hash(parent)
        self._resumed_from: dict[str, Any] | None = None
        self._saved_models: weakref.WeakKeyDictionary[torch.nn.Module, Signature] = weakref.WeakKeyDictionary()
        self._last_step, self._choosing_step = -1, threading.Lock()

    def experiment(self, exp_hash: str | None = None) -> Experiment:
        """Return an experiment, by default the current one.

        Raises:
            NoExperiment: there is no current one; lists those in the store.
        """
        chosen = exp_hash if exp_hash is not None else self.exp_hash
        if chosen is None:
            raise NoExperiment(
                f"there is no current experiment; call update_experiment_hash() first ({self.known()})"
            )
        return Experiment(self.store, chosen)

    def known(self) -> str:
        """Return which experiments the store has, for a message. One listing of one level."""
        hashes = list_hashes(self.store)
        shown = ", ".join(hashes[:_SHOWN_HASHES]) + (", ..." if len(hashes) > _SHOWN_HASHES else "")
        return f"{redact(self.store.url)} has {len(hashes)} experiments{': ' if hashes else ''}{shown}"

    def update(
        self,
        model: torch.nn.Module | None,
        config: Any | None,
        uids: Iterable[Any] | None,
        *,
        backup: BackupSource | None,
        force: bool,
    ) -> tuple[str, bool]:
        """Make the experiment of these components the current one; a collective in a torch.distributed job."""
        before = self._identity.components["model"]
        exp_hash, is_new, hashed_config = on_writer(
            lambda: self._establish(model, config, uids, backup=backup, force=force), self._writer_rank
        )
        if config is not None or self.exp_hash is None:
            self.config_in_effect = hashed_config
        if before not in (None, self._identity.components["model"]):
            self._resumed_from = None  # another network, which begins from scratch
        self.exp_hash = self._parent = exp_hash
        note_current(self, self.store, exp_hash)
        self._saved_models, self._last_step = weakref.WeakKeyDictionary(), -1
        return exp_hash, is_new

    def close(self) -> None:
        """Work on nothing any more, as far as a clean-up in this process is concerned."""
        forget_current(self)

    def origin(self, experiment: Experiment) -> Origin:
        """Return what a checkpoint saved now says of its history."""
        return Origin(
            exp_hash=experiment.exp_hash,
            run_id=self.run_id,
            resumed_from=self._resumed_from,
            config=self.config_in_effect,
        )

    def next_step(self, experiment: Experiment) -> int:
        """Return the next free step, those in flight counted; a collective. One listing."""
        return on_writer(lambda: self._next_step(experiment), self._writer_rank)

    def saved_signature(self, model: torch.nn.Module) -> Signature | None:
        """Return what `saved` was told of a model in the current experiment."""
        return self._saved_models.get(model)

    def architecture_to_save(self, model: torch.nn.Module, signature: Signature) -> PreparedArchitecture | None:
        """Return the model's architecture, unless it was saved in this experiment; warn where it is another model."""
        if self._saved_models.get(model) == signature:
            return None
        hashed = self._identity.model
        if hashed and hashed.digest != describe_model(model, forward_source=self._options.forward_source).digest:
            warn("the experiment hash was made of another model; call update_experiment_hash(model=...) first")
        return prepare_architecture_if_possible(model)

    def saved(self, model: torch.nn.Module, signature: Signature) -> None:
        """Remember that a model's architecture is in the current experiment."""
        self._saved_models[model] = signature

    def went_on_from(self, experiment: Experiment, record: CheckpointRecord, state: Mapping[str, Any]) -> None:
        """Remember the checkpoint that a model was restored from."""
        self._parent = experiment.exp_hash
        self._resumed_from = {"exp_hash": experiment.exp_hash, "step": record.step, "run_id": state.get("run_id")}
        note_resumed(experiment.store, experiment.exp_hash, record.step)

    def record_parent(self, current: Experiment, parent: str) -> None:
        """Write the parent into the current experiment's record, unless that would make a cycle; a collective."""
        on_writer(lambda: self._record_parent(current, parent), self._writer_rank)

    def nothing_to_resume(self, source: Experiment) -> str:
        """Return one line: nothing to go on from, and which experiment is nearest."""
        own = self._identity.provenance(self._options, None)
        record = record_if_sound(source)
        return nothing_to_resume(self.store, record or dataclasses.replace(own, exp_hash=source.exp_hash))

    def _establish(
        self,
        model: torch.nn.Module | None,
        config: Any,
        uids: Iterable[Any] | None,
        *,
        backup: BackupSource | None,
        force: bool,
    ) -> tuple[str, bool, Mapping[str, Any] | None]:
        identity = self._identity.updated(model, config, uids, self._options)
        experiment = Experiment(self.store, identity.exp_hash)
        record = identity.provenance(self._options, self._parent)
        is_new = establish(experiment, identity, record, backup=backup, force=force)
        self._identity = identity
        return identity.exp_hash, is_new, identity.config

    def _next_step(self, experiment: Experiment) -> int:
        listed = experiment.next_step()
        with self._choosing_step:  # what is in flight is not listed yet
            self._last_step = max(listed, self._last_step + 1)
            return self._last_step

    def _record_parent(self, current: Experiment, parent: str) -> None:
        record = record_if_sound(current)
        if (record and record.parent == parent) or descends_from(self.store, parent, current.exp_hash):
            return
        fresh = self._identity.provenance(self._options, parent)
        current.overwrite_provenance(dataclasses.replace(record, parent=parent) if record else fresh)


def record_if_sound(experiment: Experiment) -> Provenance | None:
    """Return an experiment's record; None where there is none, or it is damaged.

    Raises:
        NewerFormat: a newer version wrote it.
    """
    try:
        return experiment.provenance()
    except NewerFormat:
        raise
    except (CheckpointNotFound, CorruptCheckpoint):
        return None
