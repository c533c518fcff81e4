"""Export a checkpoint: its model's tensors, in a file that other tools read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ckptstore.archive.index import Index, naming
from ckptstore.archive.tensors import TensorRef
from ckptstore.choosing import choose_step, index_of
from ckptstore.errors import CorruptCheckpoint, InvalidURL, KeyExists, KeyNotFound
from ckptstore.experiment import Experiment, chosen_hashes
from ckptstore.exporting.safetensors import SafetensorsFile
from ckptstore.exporting.torchfile import TorchFile
from ckptstore.objects import Buffer
from ckptstore.opening import StoreLike, open_store, opened
from ckptstore.progress import Progress, Silent
from ckptstore.store import Store, redact

__all__ = ["ExportReport", "Format", "export_checkpoint"]

Format: TypeAlias = Literal["safetensors", "pt"]
_FORMATS = ("safetensors", "pt")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written.

    Attributes:
        url: the store it was written to, without credentials.
        key: of the file there.
        to: its format.
        exp_hash: the experiment.
        step: of the checkpoint.
        size_bytes: of the file.
        tensors: how many it holds.
        left_out: names in the model's state that are no tensors, where the format holds only these.
    """

    url: str
    key: str
    to: Format
    exp_hash: str
    step: int
    size_bytes: int
    tensors: int
    left_out: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def export_checkpoint(
    store: StoreLike,
    exp_hash: str,
    step: int,
    target: StoreLike,
    *,
    to: Format = "safetensors",
    key: str | None = None,
    with_optimizer: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the model's tensors of one checkpoint to a file, streamed from store to store and verified on the way.

    "safetensors" holds each name's tensor contiguous, those that share memory each by itself, and as metadata where
    it comes from. "pt" is the state dict that ``load_state_dict`` takes, sharing kept, and
    ``torch.load(weights_only=True)`` reads it. The file appears whole or not at all. Memory is some 10 MiB and what
    the stores need; only a tensor that is strided in an unusual way is gathered in memory.

    Args:
        store: where the checkpoint is: an open store, a path or a URL.
        exp_hash: its experiment, all 16 digits.
        step: its step.
        target: path or URL of the file, or of a folder (ending with "/", or there on disk) for a file named after the
            checkpoint; or an open store, with a key.
        to: "safetensors" or "pt".
        key: of the file, where the target is an open store.
        with_optimizer: in a "pt", write a dict of model_state_dict and optimizer_state_dict instead.
        overwrite: replace a file that is there.
        progress: is told of bytes written.

    Raises:
        UnknownExperiment, CheckpointNotFound: there is no such checkpoint.
        KeyExists: the file is there.
        UnsavableState: the format has no place for a tensor's dtype.
        UnsupportedFormat: torch.save wrote the checkpoint, which has no index; or a newer version did.
        CorruptCheckpoint: it is damaged; nothing was written.
        ValueError: the options contradict each other.
    """
    _check_options(to, target, key, with_optimizer=with_optimizer)
    watcher = progress or Silent()
    with opened(store) as source, _destination(target, key, f"{exp_hash}_step_{step:06d}.{to}") as (place, name):
        (known,) = chosen_hashes(source, [exp_hash])
        experiment = Experiment(source, known)
        index = index_of(experiment, choose_step(experiment, step, nearest=False))
        if not overwrite:
            _check_free(place, name)
        with naming(source, index.key):
            refs, left_out = _tensors(index)
            file = _torch_file(index, with_optimizer=with_optimizer) if to == "pt" else _safetensors_file(index, refs)
            watcher.expect(size_bytes=file.size_bytes, objects=1)
            info = place.put(name, _Watched(file, watcher))
        watcher.advance(objects=1)
        left = () if to == "pt" else left_out
        return ExportReport(redact(place.url), name, to, exp_hash, step, info.size_bytes, len(refs), left)


def _check_options(to: str, target: StoreLike, key: str | None, *, with_optimizer: bool) -> None:
    if to not in _FORMATS:
        raise ValueError(f"to={to!r} is not one of {', '.join(_FORMATS)}")
    if with_optimizer and to != "pt":
        raise ValueError("with_optimizer goes with to='pt': safetensors holds tensors by name and nothing else")
    if (key is None) == isinstance(target, Store):
        raise ValueError("give a key with an open store as target, and none with a path or URL")


@contextmanager
def _destination(target: StoreLike, key: str | None, default_name: str) -> Iterator[tuple[Store, str]]:
    if isinstance(target, Store):
        yield target, key or default_name
        return
    location = os.fspath(target)
    is_url = "://" in location
    if location.endswith("/") or (not is_url and Path(location).expanduser().is_dir()):
        folder, name = location, default_name
    elif is_url:
        folder, _, name = location.rpartition("/")
    else:
        folder, name = str(Path(location).parent), Path(location).name
    if folder.endswith(":/") or not name:
        raise InvalidURL(f"{redact(location)!r} names no file; add the file's name, or a '/' for one of its own")
    with open_store(folder) as store:
        yield store, name


def _check_free(place: Store, name: str) -> None:
    try:
        place.stat(name)
    except KeyNotFound:
        return
    raise KeyExists(f"{name} exists in {redact(place.url)}; choose another name, or --overwrite (overwrite=True)")


def _tensors(index: Index) -> tuple[dict[str, TensorRef], tuple[str, ...]]:
    model = index.state.get("model_state_dict")
    if not isinstance(model, Mapping):
        raise CorruptCheckpoint("it holds no model_state_dict; it is not a checkpoint of ckptstore")
    refs = {name: value for name, value in model.items() if isinstance(value, TensorRef)}
    return refs, tuple(name for name in model if name not in refs)


def _torch_file(index: Index, *, with_optimizer: bool) -> TorchFile:
    if not with_optimizer:
        return TorchFile(index, index.state["model_state_dict"])
    names = ("model_state_dict", "optimizer_state_dict")
    return TorchFile(index, {name: index.state[name] for name in names if index.state.get(name) is not None})


def _safetensors_file(index: Index, refs: Mapping[str, TensorRef]) -> SafetensorsFile:
    state = index.state
    origin = {"format": "pt"}
    origin.update((name, str(state[name])) for name in ("exp_hash", "step", "timestamp", "run_id") if name in state)
    if isinstance(metadata := state.get("metadata"), Mapping) and metadata:
        origin["metadata"] = json.dumps(metadata, default=str)
    return SafetensorsFile(index, refs, origin)


class _Watched:
    """Buffers that progress is told of."""

    def __init__(self, file: SafetensorsFile | TorchFile, progress: Progress) -> None:
        self._file = file
        self._progress = progress
        self.size_bytes = file.size_bytes

    def __iter__(self) -> Iterator[Buffer]:
        for data in self._file:
            yield data
            self._progress.advance(size_bytes=len(data))
