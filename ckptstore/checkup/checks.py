"""The single checks: each uses the store as a training run will, and returns what it found.

A check raises `Finding` for what the store does wrong, and lets the store's own errors pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

from ckptstore.checkup.latency import latency
from ckptstore.checkup.visit import LARGE_BYTES, MIB, Visit, blocks
from ckptstore.errors import AccessDenied, KeyExists, KeyNotFound, UnsupportedOperation
from ckptstore.objects import ByteRange

__all__ = ["CHECKS", "Finding", "reach", "read_existing"]

_SMALL = bytes(range(256)) * 4
_RACES = 3
_RACERS = 4
_SKEW_S = 60


_NOT_EXCLUSIVE = (
    (
        "two creates of one key both succeeded: the server ignores the condition (If-None-Match), so two runs could "
        "both believe that they own an experiment"
    ),
    "upgrade the server; until then pass atomic_create=False, so that creates refuse rather than race",
)


class Finding(Exception):
    """The store answered, and not as promised.

    Attributes:
        hint: what to do about it.
    """

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.hint = hint


def reach(visit: Visit) -> str:
    """List the scratch folder, the cheapest thing that needs address and credentials."""
    _expect(next(iter(visit.store.list(visit.folder)), None) is None, "a fresh folder holds something")
    return "address and credentials are accepted, listing is allowed"


def write(visit: Visit) -> str:
    """Put a small object."""
    info = visit.put("small", _SMALL)
    _expect(info.size_bytes == len(_SMALL), f"{info.size_bytes} of {len(_SMALL)} bytes arrived")
    return "a small object was stored"


def read(visit: Visit) -> str:
    """Get it back, and ask for one that is not there."""
    _expect(visit.get("small") == _SMALL, "other bytes came back than were stored")
    try:
        visit.get("absent")
    except KeyNotFound:
        return "it came back as stored; a missing object is told from a forbidden one"
    except AccessDenied as error:
        raise Finding(
            "a missing object reads as forbidden",
            "allow listing (s3:ListBucket, storage.objects.list), so that missing and forbidden differ",
        ) from error
    raise Finding("a missing object could be read")


def read_existing(visit: Visit) -> str:
    """Read something that is there already, where nothing may be written."""
    found = next(iter(visit.store.list()), None)
    if found is None:
        return "there is nothing to read yet"
    _expect(bool(list(visit.store.get_ranges(found.key, [ByteRange(0, 1024)]))), "an object could not be read")
    return "objects that are there can be read"


def ranges(visit: Visit) -> str:
    """Read from the middle, the end, and past the end."""
    [whole] = blocks(MIB)
    visit.put("ranges", whole)
    asked = [ByteRange(5, 10), ByteRange(-7), ByteRange(MIB - 3, 10), ByteRange(MIB + 5, 10), ByteRange(0, 1)]
    wanted = [whole[5:15], whole[-7:], whole[-3:], b"", whole[:1]]
    found = [bytes(part) for part in visit.store.get_ranges(visit.key("ranges"), asked)]
    visit.received_bytes += sum(map(len, found))
    _expect(found == wanted, "a range has other bytes than the object at that place", "ask the store's operator")
    return "parts and ends of an object can be read"


def replace(visit: Visit) -> str:
    """Put another object under a key, and see the new one."""
    old = visit.put("replaced", b"old")
    new = visit.put("replaced", b"newer")
    _expect(visit.get("replaced") == b"newer", "the old object is still read after it was replaced")
    _expect(old.version != new.version, "a replaced object keeps its version")
    return "a replaced object is seen at once, under another version"


def listing(visit: Visit) -> str:
    """Store some keys in disorder, and see them at once and in order."""
    for name in ("list/b", "list/a/x", "list/c/y/z", "list/000010", "list/00002"):
        visit.put(name, b"x")
    wanted = ["000010", "00002", "a/x", "b", "c/y/z"]
    found = _names(visit)
    _expect(sorted(found) == wanted, f"{len(found)} of {len(wanted)} new objects are listed")
    _expect(found == wanted, "keys are not listed in the order of their bytes", "use another server, or report it")
    folders = list(visit.store.list_prefixes(visit.key("list/")))
    _expect(folders == [visit.key("list/a/"), visit.key("list/c/")], "folders are not listed as they are")
    visit.put("list/a.x", b"x")  # "." comes before "/"; a server that keeps folders may think otherwise
    if _names(visit) == sorted([*wanted, "a.x"], key=str.encode):
        return "new objects are listed at once and in order"
    return (
        "new objects are listed at once; a file beside a folder of its name is out of order, which no experiment has"
    )


def _names(visit: Visit) -> list[str]:
    folder = visit.key("list/")
    return [info.key.removeprefix(folder) for info in visit.store.list(folder)]


def create(visit: Visit) -> str:
    """Create an object twice, and let threads race: a second one must never win."""
    try:
        visit.put("created", b"first", overwrite=False)
    except UnsupportedOperation as error:
        limits = [limit for limit in visit.store.capabilities.limits if "create" in limit]
        raise Finding(
            str(error), "; ".join(limits) or "create experiments in another store, and copy them"
        ) from error
    try:
        visit.put("created", b"second", overwrite=False)
    except KeyExists:
        _expect(visit.get("created") == b"first", "a refused create changed the object")
    else:
        raise Finding(*_NOT_EXCLUSIVE)
    for race in range(_RACES):
        if _winners(visit, f"raced-{race}") != 1:
            raise Finding(*_NOT_EXCLUSIVE)
    return f"exactly one of {_RACERS} racing creates won, {_RACES} times of {_RACES}"


def _winners(visit: Visit, name: str) -> int:
    start = Barrier(_RACERS)

    def won(racer: int) -> bool:
        start.wait()
        try:
            visit.put(name, bytes([racer]) * 100, overwrite=False)
        except KeyExists:
            return False
        return True

    with ThreadPoolExecutor(_RACERS) as racers:
        return sum(racers.map(won, range(_RACERS)))


def large(visit: Visit) -> str:
    """Put an object of many parts from an iterable, and read it back whole."""
    parts = blocks(LARGE_BYTES)
    info = visit.put_blocks("large", parts)
    _expect(info.size_bytes == LARGE_BYTES, f"{info.size_bytes} of {LARGE_BYTES} bytes arrived")
    _expect(visit.get_blocks("large", LARGE_BYTES) == parts, "other bytes came back than were stored")
    return f"{LARGE_BYTES // MIB} MiB went up from an iterable and came back the same"


def abandon(visit: Visit) -> str:
    """Break off a put in the middle, and find nothing of it."""

    def parts() -> Iterator[bytes]:
        yield from blocks(LARGE_BYTES)
        raise _BrokenOff

    try:
        visit.put_blocks("abandoned", parts())
    except _BrokenOff:
        pass
    else:
        raise Finding("the failure of what was being stored was swallowed")
    keys = [info.key for info in visit.store.list(visit.folder)]
    _expect(visit.key("abandoned") not in keys, "a put that failed left an object behind")
    left = list(visit.store.list_uploads(visit.folder))
    _expect(not left, f"{len(left)} unfinished uploads stayed behind", "allow s3:AbortMultipartUpload")
    return "a put that fails leaves neither an object nor an unfinished upload"


class _BrokenOff(Exception):
    """What breaks off the put."""


def copy(visit: Visit) -> str:
    """Copy an object within the store."""
    visit.store.copy(visit.key("small"), visit.key("copied"))
    _expect(visit.get("copied") == _SMALL, "a copy has other bytes than its source")
    return "an object was copied" + (" on the server" if visit.store.capabilities.server_side_copy else "")


def clock(visit: Visit) -> str:
    """Compare the store's clock with this machine's."""
    before = datetime.now(UTC)
    modified = visit.put("clock", b"x").modified
    after = datetime.now(UTC)
    skew_s = max((modified - after).total_seconds(), (before - modified).total_seconds() - 1, 0.0)
    _expect(skew_s < _SKEW_S, f"the store's clock and this machine's differ by {skew_s:.0f} s", "set the clock (NTP)")
    return "the store's clock and this machine's agree"


def delete(visit: Visit) -> str:
    """Delete what was written, and see it gone."""
    visit.clean_up()
    left = [info.key for info in visit.store.list(visit.folder)]
    _expect(not left, f"{len(left)} deleted objects are still listed")
    return "everything that was written is gone again"


def _expect(held: bool, otherwise: str, hint: str = "") -> None:  # noqa: FBT001  # reads like an assertion
    if not held:
        raise Finding(otherwise, hint)


CHECKS: tuple[tuple[str, Callable[[Visit], str], str], ...] = (
    ("write", write, "allow s3:PutObject or storage.objects.create below this prefix"),
    ("read", read, "allow s3:GetObject or storage.objects.get below this prefix"),
    ("ranges", ranges, ""),
    ("replace", replace, "allow overwriting (on GCS storage.objects.delete)"),
    ("list", listing, "allow s3:ListBucket or storage.objects.list for this prefix"),
    ("create", create, ""),
    ("large", large, "allow multipart uploads (s3:PutObject, on GCS storage.multipartUploads.*)"),
    ("abandon", abandon, "allow s3:AbortMultipartUpload and s3:ListBucketMultipartUploads"),
    ("copy", copy, ""),
    ("latency", latency, ""),
    ("clock", clock, "set the clock (NTP)"),
    ("delete", delete, "allow s3:DeleteObject or storage.objects.delete below this prefix"),
)
"""Name, check, and what to allow when access is denied."""
