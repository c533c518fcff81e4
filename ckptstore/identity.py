"""What an experiment is made of, and bringing it into being in a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ckptstore import keys
from ckptstore.backups import BackupSource, backup_keys, save_backup, save_uids
from ckptstore.errors import CkptStoreError
from ckptstore.experiment import Experiment
from ckptstore.hashing import (
    SCHEME_VERSION,
    ModelDescription,
    SampleSet,
    combine,
    config_digest,
    describe_model,
    plain_config,
    sample_digest,
)
from ckptstore.provenance import Provenance, current_time, current_versions, git_commit


@dataclass(frozen=True, slots=True, kw_only=True)
class HashOptions:
    """How components are hashed.

    Attributes:
        ignore: config keys to leave out.
        forward_source: whether the source of ``forward`` counts.
        record_uids: keep the active UIDs themselves, to be written beside the experiment.
    """

    ignore: tuple[str, ...] = ()
    forward_source: bool = True
    record_uids: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The last known components of an experiment.

    Attributes:
        model: the model's description, None where no model was ever given.
        config: the config as given, in its plain form, ignored keys included.
        config_digest: of the config without ignored keys.
        data_digest: of the active samples.
        sample_count: how many there are.
        samples: the samples themselves, where they are recorded.
    """

    model: ModelDescription | None = None
    config: Mapping[str, Any] | None = None
    config_digest: str | None = None
    data_digest: str | None = None
    sample_count: int | None = None
    samples: SampleSet | None = field(default=None, repr=False)

    @property
    def components(self) -> dict[str, str | None]:
        """Digest by component name."""
        model = self.model.digest if self.model else None
        return {"model": model, "config": self.config_digest, "data": self.data_digest}

    @property
    def exp_hash(self) -> str:
        """The experiment's hash."""
        return combine(**self.components)

    def updated(
        self,
        model: torch.nn.Module | None,
        config: Any | None,
        active_data_uids: Iterable[Any] | None,
        options: HashOptions,
    ) -> Identity:
        """Return the identity after an update; a component that is None keeps its last known value."""
        new = self
        if model is not None:
            new = replace(new, model=describe_model(model, forward_source=options.forward_source))
        if config is not None:
            hashed = plain_config(config, ignore=options.ignore)
            new = replace(new, config=plain_config(config), config_digest=config_digest(hashed))
        if active_data_uids is not None:
            new = _with_samples(new, active_data_uids, options)
        return new

    def provenance(self, options: HashOptions, parent: str | None) -> Provenance:
        """Return the record of this experiment, made now."""
        return Provenance(
            exp_hash=self.exp_hash,
            scheme=SCHEME_VERSION,
            components=self.components,
            sample_count=self.sample_count,
            ignored_keys=options.ignore,
            parent=None if parent == self.exp_hash else parent,
            created_at=current_time(),
            versions=current_versions(),
            git_commit=git_commit(),
            modules=dict(self.model.modules) if self.model else {},
            sources=dict(self.model.sources) if self.model else {},
        )


def _with_samples(identity: Identity, uids: Iterable[Any], options: HashOptions) -> Identity:
    if not options.record_uids:
        digest, count = sample_digest(uids)
        return replace(identity, data_digest=digest, sample_count=count, samples=None)
    samples = SampleSet(uids)  # a copy: the caller's set may change
    digest, count = sample_digest(samples)
    return replace(identity, data_digest=digest, sample_count=count, samples=samples)


def establish(
    experiment: Experiment, identity: Identity, record: Provenance, *, backup: BackupSource | None, force: bool
) -> bool:
    """Make an experiment complete in its store; True for exactly one caller, the one that created it.

    Companions come first and the record last, so that an experiment with a record has all its companions. One
    listing, and a second one where data is backed up; nothing is written where nothing is missing.

    Args:
        experiment: where it goes.
        identity: what it is made of.
        record: its provenance.
        backup: the HDF5 file to back up, if any.
        force: write the record over the one there is, keeping the parent that it names.
    """
    exp_hash = experiment.exp_hash
    present = experiment.present(keys.config_prefix(exp_hash))
    if identity.config is not None and keys.config_key(exp_hash) not in present:
        experiment.write_config(identity.config)
    if backup is not None or identity.samples is not None:
        _complete_backups(experiment, identity, backup)
    if force:
        experiment.overwrite_provenance(_with_known_parent(experiment, record))
        return True
    return keys.provenance_key(exp_hash) not in present and experiment.create(record)


def _complete_backups(experiment: Experiment, identity: Identity, backup: BackupSource | None) -> None:
    present = experiment.present(keys.backup_prefix(experiment.exp_hash))
    if backup is not None and not present.issuperset(backup_keys(keys.backup_key(experiment.exp_hash))):
        save_backup(experiment, backup)
    if identity.samples is not None and not present.issuperset(backup_keys(keys.uids_key(experiment.exp_hash))):
        save_uids(experiment, identity.samples)


def _with_known_parent(experiment: Experiment, record: Provenance) -> Provenance:
    try:
        known = experiment.provenance().parent
    except CkptStoreError:  # there is none, or it is damaged: that is what force is for
        return record
    return replace(record, parent=known)
