"""The manager: the current experiment, and one method for each thing a training program asks of it."""

from __future__ import annotations

import os
import pathlib
import signal
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, overload

import torch

from ckptstore import archive, keys
from ckptstore.architecture import (
    load_architecture,
    save_architecture,
)
from ckptstore.background import BackgroundSaver, OnError, Policy
from ckptstore.backups import BackupSource, save_backup
from ckptstore.choosing import choose_step, index_of
from ckptstore.distributed import check_writer_rank, is_writer
from ckptstore.errors import (
    LedgerError,
    UnknownExperiment,
    UntrustedPickle,
)
from ckptstore.experiment import list_hashes
from ckptstore.handle import SaveHandle, finished
from ckptstore.hashing import plain_config
from ckptstore.identity import HashOptions
from ckptstore.loader import Loader
from ckptstore.loading import MapLocation, Mmap, first_sound, loading_targets
from ckptstore.notices import logger, warn
from ckptstore.participants import check_stateful, find_model, find_optimizer
from ckptstore.preemption import Preemption
from ckptstore.retention import Policy as RetentionPolicy
from ckptstore.retention.automatic import Retention
from ckptstore.saving import Stateful, Training
from ckptstore.session import Session, record_if_sound
from ckptstore.store import Store, StorePath, open_store, redact
from ckptstore.view import CheckpointView
from ckptstore.writer import CheckpointWriter


class CheckpointManagerV2:
    """Keeps the checkpoints of experiments in one store, each under the hash of what produced it.

    In a torch.distributed job only the writer rank writes; `update_experiment_hash`, `resume` and a save without a
    step are collectives, which every rank must call; everything else may be called on any rank alone.

    Args:
        root_log_dir: a path, a URL (``s3://bucket/prefix``, ``memory://name``, ...) or a `Store`.
        storage_options: for the backend, where root_log_dir is a path or URL.
        parent: hash of the experiment that this one came out of, until another is loaded.
        data_h5_path: HDF5 file to back up into every new experiment.
        record_uids: keep the active UIDs themselves beside each experiment, so that a diff can name samples.
        ignore: config keys that the hash leaves out, such as ``"log_level"`` or ``"paths.output"``.
        forward_source: False leaves the source of ``forward`` out of the model's hash.
        writer_rank: the rank that writes in a torch.distributed job.
        save_rng: keep the random number generators' state in every checkpoint.
        save_policy: what a ``blocking=False`` save does while another one is in flight: "wait" for it, or "replace"
            the one that waits its turn, so that a slow store never stalls training.
        on_error: how a background save that failed is reported by the next call: "raise", or "warn" so that an
            outage of the store does not end a run.
        save_deadline_s: seconds after which a background save that moves no byte is given up.
        flush_on_sigterm: at SIGTERM wait for the saves in flight, then let the signal do what it did before. For the
            main thread only; a forked child, such as a DataLoader's worker, is not concerned.
        keep: which checkpoints stay, such as ``Latest(3) | Best(1, "loss", "min")``; applied after each save, once
            that is durable. What others saved goes only when it is older than 24 hours, and nothing goes by a metric
            that no checkpoint has, which is logged; see `retention.automatic.Retention`.

    Every method that needs a current experiment raises `NoExperiment` before there is one. Errors of the store
    (`StoreError`) come out as they are.
    """

    def __init__(
        self,
        root_log_dir: str | os.PathLike[str] | Store = "root_experiment",
        *,
        storage_options: Mapping[str, Any] | None = None,
        parent: str | None = None,
        data_h5_path: BackupSource | None = None,
        record_uids: bool = False,
        ignore: Iterable[str] = (),
        forward_source: bool = True,
        writer_rank: int = 0,
        save_rng: bool = True,
        save_policy: Policy = "wait",
        on_error: OnError = "raise",
        save_deadline_s: float = 600.0,
        flush_on_sigterm: bool = False,
        keep: RetentionPolicy | None = None,
    ) -> None:
        ignored = ignore if isinstance(ignore, str) else tuple(ignore)
        plain_config({}, ignore=ignored)  # says what is wrong with it
        check_writer_rank(writer_rank)
        options = HashOptions(ignore=tuple(ignored), forward_source=forward_source, record_uids=record_uids)
        retention = None if keep is None else Retention(keep)
        checked_parent = None if parent is None else keys.check_hash(parent)
        saver = BackgroundSaver(policy=save_policy, on_error=on_error, deadline_s=save_deadline_s)
        if isinstance(root_log_dir, Store):
            if storage_options:
                raise ValueError("storage_options go with a path or URL; a Store has its own")
            self._store, self._owns_store = root_log_dir, False
        else:  # last: what is refused before leaves nothing open
            self._store, self._owns_store = open_store(root_log_dir, **(storage_options or {})), True
        self._session = Session(
            self._store,
            options,
            parent=checked_parent,
            writer_rank=writer_rank,
            save_rng=save_rng,
            retention=retention,
        )
        self._data_h5_path = data_h5_path
        self._writer_rank = writer_rank
        self._writer = CheckpointWriter(saver)
        self._preemption = Preemption(self._writer.flush_started)
        if flush_on_sigterm:
            self._preemption.flush_on(signal.SIGTERM)

    # -- what it works on -----------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The store that everything goes to."""
        return self._store

    @property
    def exp_hash(self) -> str | None:
        """The current experiment's hash; None before the first update_experiment_hash()."""
        return self._session.exp_hash

    @property
    def run_id(self) -> str:
        """32 hex digits that mark the checkpoints of this manager."""
        return self._session.run_id

    @property
    def data_dir(self) -> StorePath:
        """The user's folder for global data; made where the store is a disk."""
        return self._user_folder(keys.DATA)

    @property
    def logs_dir(self) -> StorePath:
        """The user's folder for global logs; made where the store is a disk."""
        return self._user_folder(keys.LOGS)

    def __repr__(self) -> str:
        return f"CheckpointManagerV2({redact(self._store.url)!r}, exp_hash={self.exp_hash!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            logger.error("a checkpoint was lost while another error ends the program: %s", failure)

    def close(self) -> None:
        """Wait until every save is durable, give signals back, and close the store where this manager opened it.

        Raises:
            StoreError, SaveStalled: a background save failed (with ``on_error="warn"`` a warning).
        """
        try:
            self.flush()
        finally:
            self._preemption.end()
            self._session.close()
            if self._owns_store:
                self._store.close()

    # -- the experiment -------------------------------------------------------------------------------

    def update_experiment_hash(
        self,
        model: torch.nn.Module | None = None,
        config: Any | None = None,
        active_data_uids: Iterable[Any] | None = None,
        force: bool = False,  # noqa: FBT001, FBT002  # the guide's signature
    ) -> tuple[str, bool]:
        """Make the experiment of these components the current one, creating it in the store if it is new.

        A component that is None keeps the value this manager knew last. Whatever is missing beside an existing
        experiment (its config, its automatic data backup) is written again.

        Args:
            model: its architecture counts, its weights do not.
            config: a mapping, dataclass, Namespace or the like; reduced to plain data.
            active_data_uids: UIDs (str, bytes, int) of the samples in use, in any order; or a `SampleSet`.
            force: write the experiment's record again, and return True.

        Returns:
            The 16-hex-digit hash, and whether this call created the experiment: of all callers racing for the same
            experiment, in any process, exactly one gets True.

        Raises:
            ConfigTypeError: a config value that has no plain form; names its path.
            UnsupportedModel, UnsupportedUID: the model or the UIDs cannot be hashed.
        """
        return self._session.update(model, config, active_data_uids, backup=self._data_h5_path, force=force)

    def list_experiment_hashes(self) -> list[str]:
        """Return the hashes of all experiments in the store, sorted. One listing of one level."""
        return list_hashes(self._store)

    def get_checkpoint_info(self, exp_hash: str | None = None) -> dict[str, Any]:
        """Return what an experiment (by default the current one) consists of. One listing and one read.

        Keys: ``exp_hash``, ``model_checkpoints`` (file names in numeric order), ``steps``, ``architecture_saved``,
        ``configs``, ``data_backups`` (file names), ``sizes`` (bytes by file name), ``size_bytes``, ``created_at`` and
        ``parent`` (None where the record is missing).

        Raises:
            UnknownExperiment: nothing lies under that hash.
        """
        experiment = self._session.experiment(exp_hash)
        info = experiment.summary()
        if not info["sizes"]:
            raise UnknownExperiment(f"nothing lies under {experiment.exp_hash}; {self._session.known()}")
        record = record_if_sound(experiment)
        return {**info, "created_at": record and record.created_at, "parent": record and record.parent}

    def provenance(self, exp_hash: str | None = None) -> dict[str, Any]:
        """Return an experiment's record: component digests, sample count, parent, versions, commit. One read.

        Raises:
            CheckpointNotFound: there is no record.
            CorruptCheckpoint: it is damaged.
        """
        return self._session.experiment(exp_hash).provenance().as_mapping()

    # -- saving ---------------------------------------------------------------------------------------

    @overload
    def save_model_checkpoint(
        self,
        model: torch.nn.Module | None = None,
        model_name: str | None = None,
        step: int | None = None,
        save_optimizer: bool = True,  # noqa: FBT001, FBT002
        optimizer_name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: Stateful | None = None,
        scaler: Stateful | None = None,
        blocking: Literal[True] = True,
    ) -> StorePath: ...

    @overload
    def save_model_checkpoint(
        self,
        model: torch.nn.Module | None = None,
        model_name: str | None = None,
        step: int | None = None,
        save_optimizer: bool = True,  # noqa: FBT001, FBT002
        optimizer_name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: Stateful | None = None,
        scaler: Stateful | None = None,
        blocking: Literal[False],
    ) -> SaveHandle: ...

    def save_model_checkpoint(
        self,
        model: torch.nn.Module | None = None,
        model_name: str | None = None,
        step: int | None = None,
        save_optimizer: bool = True,  # noqa: FBT001, FBT002  # the guide's signature
        optimizer_name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: Stateful | None = None,
        scaler: Stateful | None = None,
        blocking: bool = True,
    ) -> StorePath | SaveHandle:
        """Save a checkpoint of the current experiment: whole or not at all, durable when this returns. One upload.

        With ``blocking=False`` the state is copied and the call returns; the copy is written while training goes on,
        and holds exactly the state of this moment. A save that failed is reported by the next one, by `flush` or by
        `close` (see ``on_error``). The first save of an experiment also saves the model's architecture.

        Args:
            model: by default the ledger's model of that name, or the only one there.
            model_name: a name in the ledger.
            step: an int from 0 upwards; an existing one is replaced. None is the next free one (one listing).
            save_optimizer: False leaves the optimizer out.
            optimizer_name: a name in the ledger; by default the ledger's only optimizer of this model, if any.
            metadata: plain data and tensors; 0-d tensors and numpy scalars become numbers.
            optimizer: the object itself.
            scheduler: anything with a state_dict().
            scaler: a GradScaler.
            blocking: False returns a `SaveHandle` at once.

        Returns:
            Where it lies: `pathlib.Path` on disk, `UPath` elsewhere. With ``blocking=False`` the handle, whose
            ``result()`` is that, and whose ``stall_seconds`` say how long training waited.

        Raises:
            InvalidStep: the step is negative or not an int.
            LedgerError: no such name, or more than one to choose from.
            UnsupportedModel: the model has nothing to save.
            UnsavableState: before the first byte, naming what weights_only loading would refuse.
            StoreFull: no space is left; earlier checkpoints are intact.
            SaveStalled: the save before this one made no progress.
        """
        began = time.perf_counter()
        experiment = self._session.experiment()
        check_stateful(scheduler, "scheduler")
        check_stateful(scaler, "scaler")
        step = self._session.next_step(experiment) if step is None else step
        path = self._store.path(keys.checkpoint_key(experiment.exp_hash, step))
        if not is_writer(self._writer_rank):
            return path if blocking else finished(step, path)
        module = find_model(model, model_name)
        training = Training(
            model=module,
            optimizer=find_optimizer(module, optimizer, optimizer_name, wanted=save_optimizer),
            scheduler=scheduler,
            scaler=scaler,
        )
        save = self._session.save_of(experiment, module, training, step=step, metadata=metadata)
        if not blocking:
            return self._writer.start(save, began)
        self._writer.write(save)
        return path

    def flush(self) -> None:
        """Wait until every save that was started with ``blocking=False`` is durable.

        Raises:
            StoreError, SaveStalled: one of them failed (with ``on_error="warn"`` a warning).
        """
        self._writer.flush()

    @property
    def preempted(self) -> bool:
        """Whether a signal given to `save_on_signal` has come; for a loop to look at after each step."""
        return self._preemption.noticed

    def save_on_signal(self, *signals: int) -> None:
        """Let signals such as ``signal.SIGTERM, signal.SIGUSR1`` set `preempted` instead of ending the program.

        The training loop then takes its last checkpoint where its state is whole, and leaves::

            if manager.preempted:
                manager.save_model_checkpoint(model, step=step, optimizer=optimizer)
                break

        Nothing is saved inside the signal handler, which could interrupt a half-done optimizer step. In a
        torch.distributed job the ranks have to agree first, by an all_reduce of `preempted`. `close` undoes it.

        Raises:
            ValueError: there is none, one cannot be handled, or this is not the main thread.
        """
        self._preemption.notice(signals)

    def save_model_architecture(
        self, model: torch.nn.Module | None = None, model_name: str | None = None
    ) -> StorePath:
        """Save the model's skeleton (classes, structure, constants; no weights) and its printed form.

        Nothing is written where the experiment has them already.

        Returns:
            Where the skeleton lies.

        Raises:
            UnsupportedModel: it cannot be pickled, or keeps a large tensor outside its state dict.
        """
        experiment = self._session.experiment()
        key = keys.architecture_key(experiment.exp_hash)
        if is_writer(self._writer_rank):
            save_architecture(experiment, find_model(model, model_name))
        return self._store.path(key)

    def save_config(self, config: Any, config_name: str = "config") -> StorePath:
        """Save a config of the current experiment, over the one there is; the hash stays what it is.

        Under the name "config" it is also the config that later checkpoints say was in effect.

        Raises:
            ConfigTypeError: a value that has no plain form; names its path.
            InvalidName: the name is reserved, or cannot stand in a key.
        """
        experiment = self._session.experiment()
        key, plain = keys.config_key(experiment.exp_hash, config_name), plain_config(config)
        if is_writer(self._writer_rank):
            experiment.write_config(plain, config_name)
        if config_name == "config":
            self._session.config_in_effect = plain
        return self._store.path(key)

    def save_data_backup(self, data_h5_path: BackupSource, backup_name: str | None = None) -> StorePath:
        """Copy an HDF5 file into the current experiment, with its checksum; one of the same name is replaced.

        Args:
            data_h5_path: a path on this machine; or, where no such file exists, a key in this store; or a URL.
            backup_name: by default "data".

        Raises:
            FileNotFoundError: there is no such file or object.
            InvalidBackup: it is not HDF5.
            BackupBusy: HDF5's lock shows that somebody writes it.
        """
        experiment, name = self._session.experiment(), "data" if backup_name is None else backup_name
        key = keys.backup_key(experiment.exp_hash, name)
        if is_writer(self._writer_rank):
            save_backup(experiment, data_h5_path, name)
        return self._store.path(key)

    # -- loading --------------------------------------------------------------------------------------

    def load_latest_checkpoint(
        self,
        model: torch.nn.Module | None = None,
        model_name: str | None = None,
        load_optimizer: bool = True,  # noqa: FBT001, FBT002  # the guide's signature
        optimizer_name: str | None = None,
        exp_hash: str | None = None,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: Stateful | None = None,
        scaler: Stateful | None = None,
        map_location: MapLocation = None,
        strict: bool = True,
        in_place: bool = False,
        mmap: Mmap = False,
    ) -> dict[str, Any] | None:
        """Load the sound checkpoint of the highest step; model and the rest are restored together or not at all.

        A damaged checkpoint is skipped with a warning. Nothing stored is executed.

        Args:
            model: to restore; by default the ledger's model of that name, or the only one there; else none.
            model_name: a name in the ledger.
            load_optimizer: False leaves the optimizer alone.
            optimizer_name: a name in the ledger; by default the ledger's only optimizer of this model, if any.
            exp_hash: another experiment than the current one.
            optimizer: the object itself.
            scheduler: anything with a load_state_dict().
            scaler: a GradScaler.
            map_location: device of the returned tensors, and of a model on the meta device.
            strict: False accepts missing and unknown model entries and converts dtypes.
            in_place: True reads straight into the tensors of model and optimizer, for models that fill the memory.
                What can be checked beforehand is; damage that is found later leaves their values undefined
                (`PartlyLoaded`), unless an older sound checkpoint is loaded over it.
            mmap: True, on a local disk only, maps the file: returned tensors are read when looked at, and no CRC32 is
                checked. "verified" reads everything once to check them.

        Returns:
            The checkpoint's dict (``step``, ``model_state_dict``, ``metadata``, ...); None, with a warning, where
            there is nothing to load.

        Raises:
            IncompatibleCheckpoint: it does not fit; lists the differences.
        """
        experiment = self._session.experiment(exp_hash)
        training = loading_targets(
            model,
            model_name,
            optimizer=optimizer,
            optimizer_name=optimizer_name,
            load_optimizer=load_optimizer,
            scheduler=scheduler,
            scaler=scaler,
        )
        loader = Loader(training=training, strict=strict, map_location=map_location, in_place=in_place, mmap=mmap)
        found = first_sound(experiment.checkpoints()[::-1], loader.reader(experiment))
        if found is None:
            warn(f"nothing to load: no sound checkpoint of experiment {experiment.exp_hash}; {self._session.known()}")
            return None
        return self._session.restore(experiment, *found, loader)

    def load_checkpoint(
        self,
        model: torch.nn.Module | None = None,
        model_name: str | None = None,
        *,
        step: int,
        exp_hash: str | None = None,
        nearest: bool = False,
        load_optimizer: bool = True,
        optimizer_name: str | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: Stateful | None = None,
        scaler: Stateful | None = None,
        map_location: MapLocation = None,
        strict: bool = True,
        in_place: bool = False,
        mmap: Mmap = False,
    ) -> dict[str, Any]:
        """Load the checkpoint of one step, or with ``nearest`` of the closest there is (the lower one of two).

        The other arguments are those of `load_latest_checkpoint`.

        Raises:
            CheckpointNotFound: there is none of that step; lists the steps there are.
            CorruptCheckpoint: it is damaged.
            IncompatibleCheckpoint: it does not fit; lists the differences.
        """
        experiment = self._session.experiment(exp_hash)
        training = loading_targets(
            model,
            model_name,
            optimizer=optimizer,
            optimizer_name=optimizer_name,
            load_optimizer=load_optimizer,
            scheduler=scheduler,
            scaler=scaler,
        )
        record = choose_step(experiment, step, nearest=nearest)
        loader = Loader(training=training, strict=strict, map_location=map_location, in_place=in_place, mmap=mmap)
        return self._session.restore(experiment, record, loader.reader(experiment)(record, None), loader)

    def open_checkpoint(self, step: int, exp_hash: str | None = None, *, nearest: bool = False) -> CheckpointView:
        """Open the checkpoint of one step without loading it: names, shapes and metadata, tensors on demand.

        Two requests, for up to some 20,000 tensors, those of optimizers included; one more for an index of over 3
        MiB, and where it is compressed those that find no `.pt`. ``nearest`` as for `load_checkpoint`.

        Raises:
            CheckpointNotFound: there is none of that step; lists the steps there are.
            CorruptCheckpoint: its index is damaged.
            UnsupportedFormat: torch.save wrote it, which has no index; `load_checkpoint` reads it.
        """
        experiment = self._session.experiment(exp_hash)
        record = choose_step(experiment, step, nearest=nearest)
        return CheckpointView(self._store, index_of(experiment, record, foresight=archive.thorough))

    def resume(
        self,
        model: torch.nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        scheduler: Stateful | None = None,
        scaler: Stateful | None = None,
        load_optimizer: bool = True,
        from_hash: str | None = None,
        map_location: MapLocation = None,
        strict: bool = True,
        in_place: bool = False,
        mmap: Mmap = False,
    ) -> dict[str, Any] | None:
        """Go on from the newest run's newest sound checkpoint: model, optimizer, scheduler, scaler, RNG.

        Says in one line what it did. After a rollback (a run that went on from step 500 while 1000 exists) it follows
        that run, and warns about the steps it passes over. In a torch.distributed job every rank loads the same
        checkpoint, and the RNG is restored on the writer rank, whose it was.

        Args:
            model: to restore; by default the ledger's only model.
            optimizer: by default the ledger's only optimizer of this model.
            scheduler: anything with a load_state_dict().
            scaler: a GradScaler.
            load_optimizer: False leaves the optimizer alone.
            from_hash: go on from another experiment's checkpoint under the current hash, which records it as its
                parent.
            map_location: device of the returned tensors, and of a model on the meta device.
            strict: False accepts missing and unknown model entries and converts dtypes.
            in_place: as for `load_latest_checkpoint`.
            mmap: as for `load_latest_checkpoint`.

        Returns:
            The checkpoint's dict; None where there is none, after saying which experiment is nearest to this one and
            what differs.

        Raises:
            IncompatibleCheckpoint: it does not fit; lists the differences.
            UnknownExperiment: nothing lies under from_hash.
            LedgerError: no model was given, and the ledger has not exactly one.
        """
        current, source = self._session.experiment(), self._session.experiment(from_hash)
        if from_hash is not None and from_hash not in self.list_experiment_hashes():
            raise UnknownExperiment(f"nothing lies under {from_hash}; {self._session.known()}")
        training = loading_targets(
            model, optimizer=optimizer, load_optimizer=load_optimizer, scheduler=scheduler, scaler=scaler
        )
        if training.model is None:
            raise LedgerError("which model is to go on? give it, or register exactly one in the ledger")
        self.flush()
        loader = Loader(training=training, strict=strict, map_location=map_location, in_place=in_place, mmap=mmap)
        return self._session.go_on(current, source, loader)

    def load_config(self, exp_hash: str | None = None, config_name: str = "config") -> dict[str, Any]:
        """Return an experiment's config as plain data. One read; YAML tags are refused, never executed.

        Raises:
            CheckpointNotFound: there is no config of that name.
            CorruptCheckpoint: it is damaged.
        """
        return self._session.experiment(exp_hash).read_config(config_name)

    def load_architecture(
        self, exp_hash: str | None = None, *, trusted: bool = False, map_location: MapLocation = None
    ) -> torch.nn.Module:
        """Return the saved model without its weights. Unpickling runs code that the file names.

        Parameters and persistent buffers are on the meta device: load a checkpoint into it and it is whole.

        Args:
            exp_hash: another experiment than the current one.
            trusted: must be True, and should be only for stores that nobody else can write to.
            map_location: device of the non-persistent buffers, which the file holds by value.

        Raises:
            UntrustedPickle: trusted is not True; nothing was read.
            CheckpointNotFound: no architecture was saved.
            CorruptCheckpoint, UnsupportedFormat: it cannot be loaded here.
        """
        if trusted is not True:
            raise UntrustedPickle(
                "loading an architecture runs code from the store; pass trusted=True if you trust it"
            )
        return load_architecture(self._session.experiment(exp_hash), map_location)

    # -- underneath -----------------------------------------------------------------------------------

    def _user_folder(self, prefix: str) -> StorePath:
        path = self._store.path(prefix.removesuffix("/"))
        if isinstance(path, pathlib.Path):
            path.mkdir(parents=True, exist_ok=True)
        return path
