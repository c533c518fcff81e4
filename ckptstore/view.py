"""A checkpoint in its store, opened but not loaded: what it holds is known, tensors are read when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ckptstore import archive
from ckptstore.errors import CorruptCheckpoint, IncompatibleCheckpoint, KeyNotFound, ObjectChanged
from ckptstore.fitting import renames_on_load
from ckptstore.hashing import clean_names, unwrap
from ckptstore.keys import other_form
from ckptstore.restoring import check_fit, restore
from ckptstore.saving import Training
from ckptstore.store import Store


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What is known of a tensor without reading it.

    Attributes:
        shape: its sizes.
        dtype: of its elements.
        size_bytes: of the record that holds it; tensors that share memory share one.
        crc32: of that record. Different ones mean different bytes; equal ones only very probably the same.
        stride: in elements, one for each dimension.
        storage_offset: of its first element in the record, in elements.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    size_bytes: int
    crc32: int
    stride: tuple[int, ...]
    storage_offset: int


class CheckpointView(Mapping[str, torch.Tensor]):
    """The model's tensors of one checkpoint by name, each read and verified when asked for.

    Opening costs one read of at most 3 MiB (two where the index is longer). All reads are of the version that was
    opened: a checkpoint replaced meanwhile is an `ObjectChanged`. Nothing is kept; a tensor asked for twice is read
    twice.
    """

    def __init__(self, store: Store, index: archive.Index) -> None:
        model = index.state.get("model_state_dict")
        if not isinstance(model, Mapping):
            raise CorruptCheckpoint(f"{index.key} holds no model_state_dict; it is not a checkpoint of ckptstore")
        self._store = store
        self._index = index
        self._refs = {name: ref for name, ref in model.items() if isinstance(ref, archive.TensorRef)}
        self._records = {record.name: record for record in index.records}

    def __len__(self) -> int:
        return len(self._refs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._refs)

    def __contains__(self, name: object) -> bool:
        return name in self._refs

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.read([name])[name]

    def __repr__(self) -> str:
        return f"CheckpointView({self._index.key!r}, {len(self)} tensors, {self._index.size_bytes} bytes)"

    @property
    def digest(self) -> str:
        """The hex digest that identifies the content of the whole file."""
        return self._index.digest

    @property
    def header(self) -> dict[str, Any]:
        """Everything in the checkpoint besides the model: step, metadata, config, optimizer state, ...

        A tensor in it is an `archive.TensorRef`, which `tensor` reads; no request is made.
        """
        return {name: value for name, value in self._index.state.items() if name != "model_state_dict"}

    def info(self, name: str) -> TensorInfo:
        """Return what is known of a tensor; no request is made.

        Raises:
            KeyError: the model has no such tensor.
        """
        return self.tensor_info(self._refs[name])

    def tensor_info(self, ref: archive.TensorRef) -> TensorInfo:
        """Return what is known of a tensor in `header`; no request is made."""
        record = self._records[ref.record]
        return TensorInfo(ref.shape, ref.dtype, record.size_bytes, record.crc32, ref.stride, ref.storage_offset)

    def tensor(self, ref: archive.TensorRef) -> torch.Tensor:
        """Return a tensor of `header`, read and verified.

        Raises:
            CorruptCheckpoint: its bytes are not what was written.
            ObjectChanged: the checkpoint was replaced since it was opened.
        """
        return self._read({"": ref})[""]

    def read(self, names: Iterable[str] | None = None, *, prefix: str = "") -> dict[str, torch.Tensor]:
        """Return some tensors, all by default; near ones share a request, each record is verified.

        Args:
            names: which; None is every one.
            prefix: only those whose name begins with it, such as ``"backbone."``.

        Raises:
            KeyError: the model has no such tensor; nothing was read.
            CorruptCheckpoint: a tensor's bytes are not what was written.
            ObjectChanged: the checkpoint was replaced since it was opened.
        """
        wanted = [name for name in (self._refs if names is None else names) if name.startswith(prefix)]
        return self._read({name: self._refs[name] for name in wanted})

    def _read(self, refs: Mapping[str, archive.TensorRef]) -> dict[str, torch.Tensor]:
        records = list(dict.fromkeys(ref.record for ref in refs.values()))
        try:
            storages = self._storages(records)
        except (KeyNotFound, ObjectChanged):
            if not self._follow():
                raise
            storages = self._storages(records)
        return {name: ref.view(storages[ref.record]) for name, ref in refs.items()}

    def _storages(self, records: Iterable[str]) -> dict[str, torch.UntypedStorage]:
        found = archive.read_records(self._store, self._index, records)
        return {name: archive.storage_of(data) for name, data in found}

    def _follow(self) -> bool:
        """Whether the checkpoint was compressed or decompressed since it was opened; read from there then."""
        try:
            found = archive.read_index(self._store, other_form(self._index.key))
        except (KeyNotFound, CorruptCheckpoint):
            return False
        same = found.digest == self._index.digest
        self._index = found if same else self._index
        return same

    def load_into(self, model: torch.nn.Module, *, prefix: str = "", strict: bool = True) -> list[str]:
        """Load the tensors below a prefix into a model that has the names behind it; only their bytes move.

        ``view.load_into(model.backbone, prefix="backbone.")`` warm-starts a backbone. What does not fit is found
        before anything is read; everything is read and verified before the model is touched.

        Args:
            model: wrapped or not; of other types than the saved one, as long as names and shapes are the same.
            prefix: of the checkpoint's names, and what they lose.
            strict: False loads what both have, and converts dtypes.

        Returns:
            The names that were loaded, as the checkpoint has them.

        Raises:
            IncompatibleCheckpoint: it does not fit, or no name begins with the prefix; nothing was read.
            CorruptCheckpoint, ObjectChanged: as `read`; the model is as it was.
        """
        where = f"{prefix}* of {self._index.key}" if prefix else self._index.key
        saved = self._below(prefix)
        training = Training(model=model)
        expected = {name: _without_values(value) for name, value in saved.items()}
        check_fit(training, {"model_state_dict": expected}, where=where, strict=strict)
        bare = unwrap(model)
        own = set(clean_names(bare, bare.state_dict()).values())
        wanted = {name: value for name, value in saved.items() if name in own or renames_on_load(bare)}
        read = self.read([prefix + name for name, value in wanted.items() if isinstance(value, archive.TensorRef)])
        state = {name: read.get(prefix + name, value) for name, value in wanted.items()}
        restore(training, {"model_state_dict": state}, where=where, strict=strict, device=None)
        return [prefix + name for name in wanted]

    def _below(self, prefix: str) -> dict[str, Any]:
        model = self._index.state["model_state_dict"]
        saved = {name.removeprefix(prefix): value for name, value in model.items() if name.startswith(prefix)}
        if not saved:
            first = ", ".join(dict.fromkeys(name.partition(".")[0] + "." for name in model))
            line = f"no name begins with {prefix!r}; they begin with {first}"
            raise IncompatibleCheckpoint(f"nothing of {self._index.key} was loaded: {line}", (line,))
        return saved


def _without_values(value: Any) -> Any:
    if not isinstance(value, archive.TensorRef):
        return value
    return torch.empty_strided(value.shape, value.stride, dtype=value.dtype, device="meta")
