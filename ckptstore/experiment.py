"""One experiment in a store: its record, configs and checkpoints, by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import yaml

from ckptstore import keys
from ckptstore.checkpoints import CheckpointRecord, Forms, checkpoint_records, forms_in
from ckptstore.companions import open_text, seal_text
from ckptstore.errors import (
    CheckpointNotFound,
    CorruptCheckpoint,
    KeyExists,
    KeyNotFound,
    ObjectChanged,
    UnknownExperiment,
)
from ckptstore.hashing import dump_yaml
from ckptstore.keys import Kind
from ckptstore.provenance import Provenance, parse_provenance
from ckptstore.store import ObjectInfo, Store, redact

T = TypeVar("T")


class Experiment:
    """Everything that lies under one hash in one store. Holds no state of its own: every call asks the store."""

    def __init__(self, store: Store, exp_hash: str) -> None:
        self.store = store
        self.exp_hash = keys.check_hash(exp_hash)

    def __repr__(self) -> str:
        return f"Experiment({self.exp_hash!r} in {redact(self.store.url)!r})"

    def where_it_is(self) -> str:
        """Return hash and store, for a message."""
        return f"{self.exp_hash} in {redact(self.store.url)}"

    def where(self, key: str) -> str:
        """Return key and store, for a message."""
        return f"{key} in {redact(self.store.url)}"

    # -- the record -----------------------------------------------------------------------------------

    def provenance(self) -> Provenance:
        """Return the experiment's record. One request.

        Raises:
            CheckpointNotFound: there is none.
            CorruptCheckpoint: it is damaged.
        """
        key = keys.provenance_key(self.exp_hash)
        try:
            return parse_provenance(self._read_yaml(key), self.where(key))
        except CheckpointNotFound:
            raise CheckpointNotFound(f"experiment {self.where_it_is()}: {self.why_no_record()}") from None

    def why_no_record(self) -> str:
        """Return what a person should know and do where the record is not there. One listing."""
        parsed = [keys.parse_key(key) for key in self.present(keys.experiment_prefix(self.exp_hash))]
        if not parsed:
            return "it is not in this store"
        if any(found is not None and found.step is not None for found in parsed):
            return "its record is missing; `ckptstore verify --repair-from STORE` brings it back"
        return "it has no record: creating it was cut short, and update_experiment_hash completes it"

    def create(self, record: Provenance) -> bool:
        """Write the record if there is none; True for exactly one caller. One request, atomic and durable."""
        try:
            self.store.put(keys.provenance_key(self.exp_hash), _yaml_file(record.as_mapping()), overwrite=False)
        except KeyExists:
            return False
        return True

    def overwrite_provenance(self, record: Provenance) -> None:
        """Write the record over the one there is. One request, atomic and durable."""
        self.store.put(keys.provenance_key(self.exp_hash), _yaml_file(record.as_mapping()))

    # -- configs --------------------------------------------------------------------------------------

    def write_config(self, plain: Mapping[str, Any], config_name: str = "config") -> None:
        """Write a config, in its plain form, over the one there is. One request, atomic and durable."""
        self.store.put(keys.config_key(self.exp_hash, config_name), _yaml_file(plain))

    def read_config(self, config_name: str = "config") -> dict[str, Any]:
        """Return a config. One request.

        Raises:
            CheckpointNotFound: there is none of that name.
            CorruptCheckpoint: it is damaged, or holds YAML tags (which are never executed).
        """
        key = keys.config_key(self.exp_hash, config_name)
        config = self._read_yaml(key)
        if not isinstance(config, dict):
            raise CorruptCheckpoint(f"{self.where(key)} is not a mapping")
        return config

    # -- checkpoints ----------------------------------------------------------------------------------

    def checkpoints(self) -> list[CheckpointRecord]:
        """Return the checkpoints in numeric order, compressed or not.

        One listing, which says nothing on whether they are sound. Where a step has both forms, because compressing it
        was cut short, its `.pt` is the checkpoint.
        """
        return [forms.record for forms in self.forms()]

    def forms(self) -> list[Forms]:
        """Return all objects of each checkpoint, in numeric order. One listing."""
        return forms_in(self.store.list(keys.model_prefix(self.exp_hash)), self.exp_hash)

    def checkpoint(self, step: int) -> CheckpointRecord:
        """Return one checkpoint, compressed or not. One request, a second and third one where there is no `.pt`.

        Raises:
            CheckpointNotFound: there is none of that step.
        """
        plain, compressed = (
            keys.checkpoint_key(self.exp_hash, step),
            keys.compressed_checkpoint_key(self.exp_hash, step),
        )
        for key in (plain, compressed, plain):  # again: it may have been decompressed between the two
            try:
                return CheckpointRecord(step, self.store.stat(key))
            except KeyNotFound:
                continue
        raise CheckpointNotFound(f"no checkpoint of step {step}: {self.where(plain)} does not exist")

    def in_either_form(self, record: CheckpointRecord, read: Callable[[CheckpointRecord], T]) -> T:
        """Return what reading a checkpoint gives; where it was compressed since it was listed, of its other form.

        Raises:
            KeyNotFound, ObjectChanged: it is gone, or another one is in its place.
        """
        try:
            return read(record)
        except (KeyNotFound, ObjectChanged):
            switched = self._other_form(record)
            if switched is None:
                raise
        return read(switched)

    def _other_form(self, record: CheckpointRecord) -> CheckpointRecord | None:
        try:
            return CheckpointRecord(record.step, self.store.stat(keys.other_form(record.info.key)))
        except KeyNotFound:
            return None

    def next_step(self) -> int:
        """Return the step after the highest there is, or 0. One listing."""
        records = self.checkpoints()
        return records[-1].step + 1 if records else 0

    # -- what there is --------------------------------------------------------------------------------

    def present(self, prefix: str) -> set[str]:
        """Return the keys under one of the experiment's folders. One listing."""
        return {info.key for info in self.store.list(prefix)}

    def summary(self) -> dict[str, Any]:
        """Return what there is, as plain data. One listing of the experiment.

        Keys: ``exp_hash``; ``model_checkpoints``, ``configs``, ``data_backups`` (file names; checkpoints in numeric
        order, configs without the provenance record, backups without the recorded UIDs); ``steps``;
        ``architecture_saved``; ``sizes`` (bytes by file name); ``size_bytes`` (their sum).
        """
        objects = list(self.store.list(keys.experiment_prefix(self.exp_hash)))
        records = checkpoint_records(objects, self.exp_hash)
        return {
            "exp_hash": self.exp_hash,
            "model_checkpoints": [keys.file_name(record.info.key) for record in records],
            "steps": [record.step for record in records],
            "architecture_saved": any(True for _ in _of_kind(objects, Kind.ARCHITECTURE)),
            "configs": [keys.file_name(key) for key in _of_kind(objects, Kind.CONFIG)],
            "data_backups": [
                keys.file_name(key) for key in _of_kind(objects, Kind.BACKUP) if key != keys.uids_key(self.exp_hash)
            ],
            "sizes": {keys.file_name(info.key): info.size_bytes for info in objects},
            "size_bytes": sum(info.size_bytes for info in objects),
        }

    def _read_yaml(self, key: str) -> object:
        try:
            data = self.store.get(key)
        except KeyNotFound:
            there = ", ".join(sorted(keys.file_name(found) for found in self.present(key.rpartition("/")[0] + "/")))
            raise CheckpointNotFound(f"{self.where(key)} does not exist; beside it: {there or 'nothing'}") from None
        try:
            return yaml.safe_load(open_text(data, self.where(key)))
        except yaml.YAMLError as error:
            raise CorruptCheckpoint(f"{self.where(key)} is not plain YAML: {_one_line(error)}") from None


def list_hashes(store: Store) -> list[str]:
    """Return the hashes of all experiments in a store, sorted. One listing of one level."""
    found = (keys.hash_of_prefix(prefix) for prefix in store.list_prefixes(keys.CHECKPOINTS))
    return [exp_hash for exp_hash in found if exp_hash is not None]


def chosen_hashes(store: Store, experiments: Iterable[str] | None) -> list[str]:
    """Return the experiments that were named, or with None all there are. One listing of one level.

    Raises:
        TypeError: a str, which would be many hashes of one letter.
        InvalidName: what was named is no full hash.
        UnknownExperiment: nothing lies under one of them.
    """
    if isinstance(experiments, str):
        raise TypeError(f"experiments is the str {experiments!r}; give a list of hashes")
    there = list_hashes(store)
    if experiments is None:
        return there
    wanted = list(dict.fromkeys(map(keys.check_hash, experiments)))
    if unknown := sorted(set(wanted).difference(there)):
        raise UnknownExperiment(
            f"nothing lies under {', '.join(unknown)}; {redact(store.url)} has {len(there)} experiments; "
            "nothing was done"
        )
    return wanted


def _of_kind(objects: Iterable[ObjectInfo], kind: Kind) -> Iterator[str]:
    for info in objects:
        parsed = keys.parse_key(info.key)
        if parsed is not None and parsed.kind is kind:
            yield info.key


def _yaml_file(plain: Mapping[str, Any]) -> bytes:
    return seal_text(dump_yaml(plain))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
