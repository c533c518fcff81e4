"""Look at every object of some experiments, many at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from ckptstore import keys
from ckptstore.errors import CorruptCheckpoint, KeyNotFound, StoreError
from ckptstore.progress import Progress
from ckptstore.provenance import Provenance
from ckptstore.store import ObjectInfo, Store
from ckptstore.verifying.companions import record_in
from ckptstore.verifying.examination import examined
from ckptstore.verifying.report import ExperimentFindings, Finding
from ckptstore.verifying.streaming import whole
from ckptstore.verifying.structure import structural_findings

__all__ = ["Inspected", "Inspector"]

_SMALL_BYTES = 4 * 1024 * 1024
_LARGE_AT_ONCE = 2  # each holds up to one window of the store's memory


@dataclass(slots=True)
class Inspected:
    """One experiment: what lies in it, and what was found so far.

    Attributes:
        exp_hash: the experiment.
        objects: all that lie under it.
        findings: by key and kind.
        read_bytes: how much was read and checked.
        parent: the experiment that it came out of, as its record says.
    """

    exp_hash: str
    objects: Sequence[ObjectInfo]
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)
    read_bytes: int = 0
    parent: str | None = None

    def add(self, finding: Finding | None) -> None:
        """Take a finding; what became of a repair replaces it, seeing it once more does not."""
        if finding is None or (not finding.outcome and (finding.key, finding.kind) in self.findings):
            return
        self.findings[finding.key, finding.kind] = finding

    def result(self) -> ExperimentFindings:
        """Return it as a value."""
        return ExperimentFindings(
            exp_hash=self.exp_hash,
            objects=len(self.objects),
            size_bytes=sum(info.size_bytes for info in self.objects),
            read_bytes=self.read_bytes,
            findings=tuple(sorted(self.findings.values(), key=lambda finding: (finding.key, finding.kind))),
        )


class Inspector:
    """Reads objects in threads: many small ones at a time, of the large ones two.

    Args:
        store: where they lie.
        workers: how many small objects at a time.
        progress: is told of every byte.
    """

    def __init__(self, store: Store, workers: int, progress: Progress) -> None:
        self._store = store
        self._workers = workers
        self._progress = progress
        self._telling = threading.Lock()

    def look_at(self, experiments: Iterable[Inspected]) -> None:
        """Find out what listings and records say. One small read for each experiment."""
        with ThreadPoolExecutor(self._workers, "ckptstore-verify") as pool:
            _finish([pool.submit(self._look_at, one) for one in experiments])

    def read(self, experiments: Iterable[Inspected]) -> None:
        """Read and check every object that is ours."""
        todo = [(one, info) for one in experiments for info in one.objects if keys.parse_key(info.key)]
        self._progress.expect(size_bytes=sum(info.size_bytes for _, info in todo), objects=len(todo))
        with (
            ThreadPoolExecutor(self._workers, "ckptstore-verify") as small,
            ThreadPoolExecutor(_LARGE_AT_ONCE, "ckptstore-verify-large") as large,
        ):
            pending = [
                (small if info.size_bytes <= _SMALL_BYTES else large).submit(self._read, one, info)
                for one, info in todo
            ]
            _finish(pending)

    def advance_further(self, size_bytes: int) -> None:
        """Tell of bytes that nobody had expected to be read."""
        with self._telling:
            self._progress.expect(size_bytes=size_bytes)
            self._progress.advance(size_bytes=size_bytes)

    def _look_at(self, one: Inspected) -> None:
        record = self._record(one)
        one.parent = record.parent if record else None
        for finding in structural_findings(one.exp_hash, one.objects, record):
            one.add(finding)

    def _record(self, one: Inspected) -> Provenance | None:
        key = keys.provenance_key(one.exp_hash)
        info = next((info for info in one.objects if info.key == key), None)
        if info is None:
            return None
        try:
            return record_in(whole(self._store, info), info)
        except KeyNotFound:
            return None
        except (CorruptCheckpoint, StoreError):
            one.add(examined(self._store, info, lambda _: None))
            return None

    def _read(self, one: Inspected, info: ObjectInfo) -> None:
        told = 0

        def advance(size_bytes: int) -> None:
            nonlocal told
            told += size_bytes
            with self._telling:
                self._progress.advance(size_bytes=size_bytes)

        finding = examined(self._store, info, advance)
        with self._telling:
            one.add(finding)
            one.read_bytes += info.size_bytes
            self._progress.advance(size_bytes=max(0, info.size_bytes - told), objects=1)


def _finish(pending: Sequence[Future[None]]) -> None:
    """Wait for all; after a failure what has not begun is given up, and the failure raised."""
    try:
        done, _ = wait(pending, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    finally:  # after an interrupt, too
        for future in pending:
            future.cancel()
