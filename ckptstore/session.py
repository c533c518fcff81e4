"""What a manager knows from one call to the next: the current experiment, and where this run came from."""

from __future__ import annotations

import dataclasses
import threading
import uuid
import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ckptstore.architecture import PreparedArchitecture, prepare_architecture_if_possible
from ckptstore.backups import BackupSource
from ckptstore.checkpoints import CheckpointRecord
from ckptstore.distributed import is_writer, on_every_rank, on_writer
from ckptstore.errors import CheckpointNotFound, CorruptCheckpoint, NewerFormat, NoExperiment
from ckptstore.experiment import Experiment, list_hashes
from ckptstore.hashing import describe_model
from ckptstore.identity import HashOptions, Identity, establish
from ckptstore.loader import Loader
from ckptstore.notices import say, warn
from ckptstore.provenance import Provenance
from ckptstore.resuming import descends_from, find_resumable, nothing_to_resume, restored_line
from ckptstore.retention.automatic import Retention
from ckptstore.retention.in_use import forget_current, note_current, note_resumed
from ckptstore.rng import restore_rng
from ckptstore.saving import Origin, Signature, Training, checkpoint_state, signature_of
from ckptstore.store import ObjectInfo, Store, redact
from ckptstore.writer import Save

_SHOWN_HASHES = 20


@dataclass(slots=True)
class _Architecture:
    """A model's architecture, as it was when a checkpoint was last asked for.

    Attributes:
        signature: of the state that it goes with.
        to_write: its files, until a checkpoint that was saved with them is durable; None where there is nothing to
            write.
    """

    signature: Signature
    to_write: PreparedArchitecture | None


class Session:
    """The current experiment of one manager in one store, and the history of its run.

    Attributes:
        store: where everything lies.
        run_id: 32 hex digits that mark the checkpoints of this run.
        exp_hash: the current experiment; None before the first `update`.
        config_in_effect: what checkpoints record as their config, in its plain form.
    """

    def __init__(
        self,
        store: Store,
        options: HashOptions,
        *,
        parent: str | None,
        writer_rank: int,
        save_rng: bool,
        retention: Retention | None,
    ) -> None:
        self.store = store
        self.run_id = uuid.uuid4().hex
        self.exp_hash: str | None = None
        self.config_in_effect: Mapping[str, Any] | None = None
        self._options = options
        self._writer_rank = writer_rank
        self._save_rng = save_rng
        self._retention = retention
        self._identity = Identity()
        self._parent = parent
        self._resumed_from: dict[str, Any] | None = None
        self._architectures: weakref.WeakKeyDictionary[torch.nn.Module, _Architecture] = weakref.WeakKeyDictionary()
        self._highest_steps: defaultdict[str, int] = defaultdict(lambda: -1)
        self._choosing_step = threading.Lock()

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
        self._architectures = weakref.WeakKeyDictionary()
        return exp_hash, is_new

    def close(self) -> None:
        """Work on nothing any more, as far as a clean-up in this process is concerned."""
        forget_current(self)

    def next_step(self, experiment: Experiment) -> int:
        """Return the next free step, those in flight counted; a collective. One listing."""
        return on_writer(lambda: self._next_step(experiment), self._writer_rank)

    def save_of(
        self,
        experiment: Experiment,
        model: torch.nn.Module,
        training: Training,
        *,
        step: int,
        metadata: Mapping[str, Any] | None,
    ) -> Save:
        """Return the checkpoint of this moment, to be written; with the model's architecture, unless that is stored.

        Args:
            experiment: where it belongs.
            model: the one in training.
            training: what to save.
            step: its step.
            metadata: as the user gave it.

        Raises:
            UnsupportedModel, UnsavableState: the model has nothing to save, or its state cannot be saved.
        """
        origin = Origin(
            exp_hash=experiment.exp_hash,
            run_id=self.run_id,
            resumed_from=self._resumed_from,
            config=self.config_in_effect,
        )
        state = checkpoint_state(training, step=step, metadata=metadata, origin=origin, save_rng=self._save_rng)
        architecture = self._architecture(model, state["model_state_dict"])
        self._note_step(experiment, step)

        def durable(saved: ObjectInfo) -> None:
            architecture.to_write = None
            if self._retention is not None:
                self._retention.committed(experiment, saved)

        return Save(experiment, step, state, architecture.to_write, durable)

    def restore(
        self, experiment: Experiment, record: CheckpointRecord, state: dict[str, Any], loader: Loader
    ) -> dict[str, Any]:
        """Return what was read of a checkpoint, once it is restored; a model it is restored into goes on from it.

        Raises:
            IncompatibleCheckpoint: it does not fit; lists the differences.
        """
        loader.restore(experiment, record, state)
        if loader.training.model is not None:  # else it was only looked at
            self._parent = experiment.exp_hash
            self._resumed_from = {"exp_hash": experiment.exp_hash, "step": record.step, "run_id": state.get("run_id")}
            note_resumed(experiment.store, experiment.exp_hash, record.step)
        return state

    def go_on(self, current: Experiment, source: Experiment, loader: Loader) -> dict[str, Any] | None:
        """Restore the newest run's newest sound checkpoint, with the RNG, and say so; a collective.

        Returns:
            What it holds; None where there is none.

        Raises:
            IncompatibleCheckpoint: it does not fit; lists the differences.
        """
        found = find_resumable(source, loader.reader(source), writer_rank=self._writer_rank)
        acts = is_writer(self._writer_rank)
        if found is None:
            if acts:
                say(self._nothing_to_resume(source))
            return None
        state = on_every_rank(lambda: self.restore(source, *found, loader))
        if current.exp_hash != source.exp_hash:
            on_writer(lambda: self._record_parent(current, source.exp_hash), self._writer_rank)
        if acts:
            if state.get("rng_state"):
                restore_rng(state["rng_state"])
            done = restored_line(loader.training, state)
            say(f"resumed from step {found[0].step} of experiment {source.where_it_is()}: {done}")
        return state

    def _architecture(self, model: torch.nn.Module, model_state: Mapping[str, Any]) -> _Architecture:
        known = self._architectures.get(model)
        signature = signature_of(model_state, known.signature if known else None)
        if known is None or known.signature != signature:
            self._warn_of_another_model(model)
            known = _Architecture(signature, prepare_architecture_if_possible(model))
            self._architectures[model] = known
        return known

    def _warn_of_another_model(self, model: torch.nn.Module) -> None:
        hashed = self._identity.model
        if hashed and hashed.digest != describe_model(model, forward_source=self._options.forward_source).digest:
            warn("the experiment hash was made of another model; call update_experiment_hash(model=...) first")

    def _nothing_to_resume(self, source: Experiment) -> str:
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
            step = max(listed, self._highest_steps[experiment.exp_hash] + 1)
            self._highest_steps[experiment.exp_hash] = step
            return step

    def _note_step(self, experiment: Experiment, step: int) -> None:
        with self._choosing_step:
            self._highest_steps[experiment.exp_hash] = max(step, self._highest_steps[experiment.exp_hash])

    def _record_parent(self, current: Experiment, parent: str) -> None:
        """Write the parent into the current experiment's record, unless that would make a cycle."""
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
