"""Decompress checkpoints: write the `.pt`, read it back, and only then delete the `.pt.zst`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import xxhash

from ckptstore import keys
from ckptstore.archive.content import PlainContent
from ckptstore.archive.index import naming
from ckptstore.checkpoints import Forms
from ckptstore.compression.copies import check_content, content_digest
from ckptstore.compression.elements import described
from ckptstore.compression.report import CompressReport, Outcome
from ckptstore.compression.selection import check_steps
from ckptstore.compression.work import Task, carried_out, give_way, outcome, take_back
from ckptstore.errors import CorruptCheckpoint
from ckptstore.experiment import Experiment, chosen_hashes
from ckptstore.objects import ByteRange
from ckptstore.opening import StoreLike, opened
from ckptstore.packing import PackedContent
from ckptstore.progress import Progress, Silent
from ckptstore.store import ObjectInfo, Store, redact

__all__ = ["Unpacking", "decompress"]


def decompress(
    store: StoreLike,
    *,
    experiments: Iterable[str] | None = None,
    steps: Iterable[int] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CompressReport:
    """Give compressed checkpoints their `.pt` back, byte for byte what it was.

    Each is stored whole or not at all, read back and compared before the `.pt.zst` is deleted. A kill at any moment
    loses nothing; the next call finishes the work.

    Args:
        store: an open store, a path or a URL.
        experiments: full hashes; None is every one.
        steps: only these; None is every one.
        dry_run: only say what would be done.
        progress: is told of bytes, each once to decompress and once to read back.

    Returns:
        What became of each checkpoint; errors as for `compress`.

    Raises:
        InvalidName, UnknownExperiment, CheckpointNotFound: of what was named; nothing was done.
    """
    watcher = progress or Silent()
    with opened(store) as place:
        listed = [Experiment(place, exp_hash).forms() for exp_hash in chosen_hashes(place, experiments)]
        wanted = check_steps(listed, steps)
        chosen = [forms for found in listed for forms in found if wanted is None or forms.step in wanted]
        outcomes = carried_out(
            [_planned(place, forms, watcher) for forms in chosen], dry_run=dry_run, progress=watcher
        )
        return CompressReport(redact(place.url), dry_run, outcomes)


def _planned(store: Store, forms: Forms, progress: Progress) -> Task:
    if forms.packed is None:
        return Task(forms, reason="not compressed")
    return Task(forms, work=_Decompression(store, forms, forms.packed, progress))


class Unpacking:
    """The buffers of a `.pt`, decompressed and checked: an iterable, to be used once.

    Attributes:
        size_bytes: how much comes out.
    """

    def __init__(self, content: PackedContent, progress: Progress) -> None:
        self._content = content
        self._progress = progress
        self.size_bytes = content.size_bytes

    def __iter__(self) -> Iterator[memoryview]:
        digest = xxhash.xxh3_128()
        for data in self._content.read(ByteRange(block.start, block.size_bytes) for block in self._content.blocks):
            digest.update(data)
            self._progress.advance(size_bytes=len(data))
            yield data
        if digest.hexdigest() != self._content.footer.content_digest:
            raise CorruptCheckpoint("what it decompresses to is not what was compressed")


@dataclass(frozen=True, slots=True)
class _Decompression:
    """The work on one checkpoint."""

    store: Store
    forms: Forms
    packed: ObjectInfo
    progress: Progress

    @property
    def size_bytes(self) -> int:
        """How many bytes it reads, as far as is known without asking: what is stored, twice."""
        return 2 * self.packed.size_bytes

    def __call__(self) -> Outcome:
        """Do it.

        Raises:
            CkptStoreError: the `.pt.zst` is as it was.
        """
        with naming(self.store, self.packed.key):
            content = PackedContent(self.store, self.packed)
            self.progress.expect(size_bytes=2 * (content.size_bytes - self.packed.size_bytes))
            if self.forms.plain is not None:
                return self._beside(self.forms.plain, content)
            key = keys.checkpoint_key(self.forms.exp_hash, self.forms.step)
            return self._switched(self.store.put(key, Unpacking(content, self.progress)), content)

    def _beside(self, plain: ObjectInfo, content: PackedContent) -> Outcome:
        """Finish what was cut short; a `.pt` of another content was saved later, and is the checkpoint."""
        written = PlainContent(self.store, plain)
        found = content_digest(written, described(written).observe)
        if found == content.footer.content_digest:
            return self._switched(plain, content)
        return outcome(self.forms, "kept", "its .pt was saved after the .pt.zst; compress it to replace that")

    def _switched(self, plain: ObjectInfo, content: PackedContent) -> Outcome:
        written, digest = PlainContent(self.store, plain), content.footer.content_digest
        try:
            check_content(written, content.size_bytes, digest, self._read_back)
        except CorruptCheckpoint:
            if plain is not self.forms.plain:
                take_back(self.store, plain, self.packed)
            raise
        give_way(self.store, self.packed, plain)
        return outcome(self.forms, "finished" if plain is self.forms.plain else "changed", now=plain)

    def _read_back(self, data: memoryview) -> None:
        self.progress.advance(size_bytes=len(data))
