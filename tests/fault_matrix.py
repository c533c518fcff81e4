"""Every operation of a store under every fault of the network, and what may come of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ckptstore.errors import AccessDenied, CkptStoreError, KeyExists, StoreError, StoreUnavailable
from ckptstore.objects import ByteRange
from ckptstore.store import Store
from tests.proxy import Answer, Cut, Delay, Fault, FlipRequest, Lose, Proxy, Reset, Stall, Truncate

HANG_S = 30
"""An operation that takes longer hangs: the stores of these tests are told to give up after a few seconds."""

_MIB = 1024 * 1024
_AT_ONCE = 13
_OLD = bytes(range(256)) * 12
_LARGE = bytes(range(251)) * (7 * _MIB // 251)
_NEW = b"something new, longer than what is cut off " * 20
_RANGES = [ByteRange(0, 100), ByteRange(-100), ByteRange(1000, 500)]


@dataclass(frozen=True, slots=True)
class Place:
    """An empty store behind a faulty network, and hands that reach its medium past both.

    Attributes:
        seed: lays an object.
        peek: returns an object's bytes, None when there is none.
        uploads: returns the unfinished multipart uploads.
    """

    store: Store
    proxy: Proxy
    seed: Callable[[str, bytes], object]
    peek: Callable[[str], bytes | None]
    uploads: Callable[[], Sequence[object]]


Cell = tuple[str, str]
OpenPlace = Callable[[], AbstractContextManager[Place]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One use of a store.

    Attributes:
        act: uses it.
        expected: what that returns.
        before: the objects that are there.
        after: the objects that it changes, with their new content; None for one that it deletes.
    """

    act: Callable[[Store], object]
    expected: object
    before: Mapping[str, bytes]
    after: Mapping[str, bytes | None]


_HAS_OLD = {"old": _OLD, "other": b"x"}
_GET = Operation(lambda store: bytes(store.get("large")), _LARGE, {"large": _LARGE}, {})
_GET_RANGES = Operation(
    lambda store: [bytes(part) for part in store.get_ranges("old", _RANGES)],
    [_OLD[:100], _OLD[-100:], _OLD[1000:1500]],
    _HAS_OLD,
    {},
)
_STAT = Operation(lambda store: store.stat("old").size_bytes, len(_OLD), _HAS_OLD, {})
_LIST = Operation(lambda store: [info.key for info in store.list()], ["old", "other"], _HAS_OLD, {})
_PUT = Operation(lambda store: store.put("old", _NEW).size_bytes, len(_NEW), _HAS_OLD, {"old": _NEW})
_PUT_PARTS = Operation(
    lambda store: store.put("old", (_LARGE[i : i + _MIB] for i in range(0, len(_LARGE), _MIB))).size_bytes,
    len(_LARGE),
    _HAS_OLD,
    {"old": _LARGE},
)
_CREATE = Operation(
    lambda store: store.put("new", _NEW, overwrite=False).size_bytes, len(_NEW), _HAS_OLD, {"new": _NEW}
)
_DELETE = Operation(lambda store: store.delete(["old", "absent"]), None, _HAS_OLD, {"old": None})
_COPY = Operation(lambda store: store.copy("other", "old").size_bytes, 1, _HAS_OLD, {"old": b"x"})


@dataclass(frozen=True, slots=True)
class Hit:
    """One request of an operation.

    Attributes:
        target: which requests count, as in `tests.proxy.Fault`.
        nth: the one that is meant.
    """

    operation: Operation
    target: str = ""
    nth: int = 1


SINGLE_HITS: Mapping[str, Hit] = {
    "get": Hit(_GET),
    "get, 2nd": Hit(_GET, nth=2),
    "get_ranges": Hit(_GET_RANGES),
    "stat": Hit(_STAT),
    "list": Hit(_LIST),
    "put": Hit(_PUT),
    "create": Hit(_CREATE),
    "delete": Hit(_DELETE),
    "copy, stat": Hit(_COPY),
    "copy": Hit(_COPY, nth=2),
}
"""The operations that need no more than a request or two, on any service."""

S3_HITS: Mapping[str, Hit] = {
    **SINGLE_HITS,
    "parts, begin": Hit(_PUT_PARTS, "^POST .*uploads"),
    "parts, part": Hit(_PUT_PARTS, "^PUT .*partNumber=2"),
    "parts, end": Hit(_PUT_PARTS, "^POST .*uploadId="),
}
"""The same and an upload in parts, on what speaks S3 or the XML interface of GCS."""

XML_HITS: Mapping[str, Hit] = {name: S3_HITS[name] for name in S3_HITS if name.startswith(("get", "parts"))}
"""What goes through the XML interface of GCS; the rest goes through the JSON interface."""

JSON_HITS: Mapping[str, Hit] = {
    **SINGLE_HITS,
    "parts, begin": Hit(_PUT_PARTS, "^POST .*uploadType=resumable"),
    "parts, part": Hit(_PUT_PARTS, "^PUT "),
    "parts, end": Hit(_PUT_PARTS, "^PUT ", nth=2),
}
"""The same and an upload in parts, on the JSON interface of GCS."""

FAULTS: Mapping[str, Callable[[str, int | None], Fault]] = {
    "delay": lambda target, nth: Delay(0.2, target=target, nth=nth),
    "stall": lambda target, nth: Stall(target=target, nth=nth),
    "cut": lambda target, nth: Cut(100, target=target, nth=nth),
    "reset": lambda target, nth: Reset(target=target, nth=nth),
    "500": lambda target, nth: Answer(500, "InternalError", target=target, nth=nth),
    "503": lambda target, nth: Answer(503, "SlowDown", target=target, nth=nth),
    "429": lambda target, nth: Answer(429, "TooManyRequests", target=target, nth=nth),
    "lost answer": lambda target, nth: Lose(target=target, nth=nth),
    "truncated": lambda target, nth: Truncate(target=target, nth=nth),
    "409": lambda target, nth: Answer(409, "ConditionalRequestConflict", target=target, nth=nth),
    "412": lambda target, nth: Answer(412, "PreconditionFailed", target=target, nth=nth),
    "403": lambda target, nth: Answer(403, "AccessDenied", target=target, nth=nth),
    "flipped bit": lambda target, nth: FlipRequest(-100, target=target, nth=nth),
}

RETRIED = frozenset({"delay", "stall", "cut", "reset", "500", "503", "429", "lost answer", "truncated"})
"""Happening once, these fail no operation."""

ENDLESS = ("stall", "cut", "reset", "503", "lost answer", "truncated")
"""Those that are worth trying again, and may never end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an operation.

    Attributes:
        error: what was raised, None when it succeeded.
        wrong: which promises are broken.
        requests: how many were made.
    """

    error: Exception | None
    wrong: tuple[str, ...]
    requests: int

    def __str__(self) -> str:
        said = "done" if self.error is None else type(self.error).__name__
        return f"{said} ({self.requests}){' WRONG: ' * bool(self.wrong)}{'; '.join(self.wrong)}"


def row(open_place: OpenPlace, hits: Mapping[str, Hit], fault: str, *, endless: bool) -> dict[str, Outcome]:
    """Return the outcome of every operation under one fault, that happens once or every time."""

    if endless:  # which request is hit first makes no difference then
        hits = {name: hit for name, hit in hits.items() if hit.nth == 1}

    def cell(hit: Hit) -> Outcome:
        with open_place() as place:
            return run(place, hit.operation, FAULTS[fault](hit.target, None if endless else hit.nth))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(hits, pool.map(cell, hits.values()), strict=True))


def run(place: Place, operation: Operation, fault: Fault) -> Outcome:
    """Run an operation under a fault, and compare what came of it with what every store promises."""
    for key, data in operation.before.items():
        place.seed(key, data)
    place.proxy.faults = [fault]
    started = time.monotonic()
    error, wrong = None, list[str]()
    try:
        found = operation.act(place.store)
        wrong += ["another result"] * (found != operation.expected)
    except CkptStoreError as raised:
        error = raised
    elapsed = time.monotonic() - started
    requests = len(place.proxy.requests)
    place.proxy.faults = []
    place.proxy.settle()
    wrong += [f"took {elapsed:.0f} s"] * (elapsed > HANG_S)
    wrong += _wrong_objects(place, operation, failed=error is not None)
    wrong += ["an upload is left"] * bool(place.uploads())
    return Outcome(error, tuple(wrong), requests)


def _wrong_objects(place: Place, operation: Operation, *, failed: bool) -> Iterator[str]:
    """Yield what is neither as it was nor as it should be; after a success, only the latter will do."""
    for key in {**operation.before, **operation.after}:
        old = operation.before.get(key)
        new = operation.after.get(key, old)
        if place.peek(key) not in ([old, new] if failed else [new]):
            yield f"{key} is wrong"


def broken(fault: str, outcomes: Mapping[str, Outcome], *, endless: bool) -> dict[str, str]:
    """Return the outcomes that must not be."""
    allowed = _allowed_always if endless else _allowed_once
    return {
        name: f"{outcome}: {outcome.error}"
        for name, outcome in outcomes.items()
        if outcome.wrong or not allowed(fault, name, outcome.error)
    }


def check(fault: str, outcomes: Mapping[str, Outcome], known: Mapping[Cell, str], *, endless: bool) -> None:
    """Fail unless exactly those outcomes are bad that are known to be.

    Args:
        known: by (fault, operation), each with its reason; one that is none is a failure too.
    """
    found = broken(fault, outcomes, endless=endless)
    expected = {name for cell, name in known if cell == fault and name in outcomes}
    unexpected = {name: text for name, text in found.items() if name not in expected}
    assert not unexpected, "\n".join(f"{fault} x {name}: {text}" for name, text in unexpected.items())
    assert expected <= set(found), f"{fault} x {sorted(expected - set(found))} came to a good end"


def _allowed_once(fault: str, operation: str, error: Exception | None) -> bool:
    if fault in RETRIED or (fault, operation) == ("409", "create"):
        return error is None
    if fault == "403":
        return error is None or isinstance(error, AccessDenied)
    if (fault, operation) == ("412", "create"):
        return isinstance(error, KeyExists)
    return error is None or isinstance(error, StoreError)


def _allowed_always(fault: str, _operation: str, error: Exception | None) -> bool:
    # half of an answer without a body is all of it, and what was obeyed may be seen by asking something else
    return isinstance(error, StoreUnavailable) or (fault in {"truncated", "lost answer"} and error is None)


def table(rows: Mapping[str, Mapping[str, Outcome]]) -> str:
    """Return outcomes, by fault and operation, as a table in Markdown; in brackets the number of requests."""
    operations = list(next(iter(rows.values())))
    lines = [["fault", *operations], ["---"] * (len(operations) + 1)]
    lines += [[fault, *map(str, outcomes.values())] for fault, outcomes in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
