"""Examine a store: every check in turn, within a time, leaving nothing behind."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ckptstore.checkup.checks import CHECKS, Finding, reach, read_existing
from ckptstore.checkup.report import Check, CheckUp, Speed
from ckptstore.checkup.visit import LARGE_BYTES, TooSlow, Visit
from ckptstore.errors import AccessDenied, CkptStoreError
from ckptstore.objects import redact
from ckptstore.store import Store, open_store

__all__ = ["doctor", "examine"]

_LIMIT_S = 120.0
_FIRST_ANSWER_S = 30.0  # a store that is there answers a listing within this
_SAID_LETTERS = 300
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_GRACE_S = 20.0  # beyond the limit: for an answer that is under way, and for cleaning up


def doctor(url: str | os.PathLike[str], *, limit_s: float = _LIMIT_S, **options: object) -> CheckUp:
    """Try everything that a training run will ask of a store, and say what works.

    Writes below a fresh folder named ``ckptstore-doctor-...``, and removes it, whatever happens. Sends about
    53 MB and receives about 27. Whatever is wrong with the store is in the report; nothing is raised for it.

    Args:
        url: as for `open_store`.
        limit_s: seconds; what is not done by then is reported as such.
        options: the backend's own, as for `open_store`.

    Raises:
        TypeError: an option that the backend does not know.
        ValueError: an option whose value cannot be.
    """
    try:
        store = open_store(url, **options)
    except CkptStoreError as error:
        return CheckUp(redact(os.fspath(url)), (Check("open", ok=False, detail=str(error)),), Speed(), 0, 0, 0.0)
    new = _missing_folders(store)
    found = examine(store, limit_s=limit_s)
    if not found.hangs:  # closing would wait for the same answer
        store.close()
    with suppress(OSError):  # somebody has begun to use them
        for folder in new:
            folder.rmdir()
    return found


def _missing_folders(store: Store) -> list[Path]:
    """Return the folders that a first write would make, the innermost first; none but on a disk."""
    inside = store.path("k")
    return [folder for folder in inside.parents if not folder.exists()] if isinstance(inside, Path) else []


def examine(store: Store, *, limit_s: float = _LIMIT_S) -> CheckUp:
    """Do as `doctor` does with a store that is open already; it stays open."""
    visit = Visit(store, limit_s)
    checks: list[Check] = []
    examination = threading.Thread(target=_examine, args=(visit, checks), name="ckptstore doctor", daemon=True)
    examination.start()
    if visit.answered.wait(min(_FIRST_ANSWER_S, limit_s + _GRACE_S)):
        examination.join(limit_s + _GRACE_S)
    hangs = examination.is_alive()
    return CheckUp(
        url=redact(store.url),
        checks=(*checks, _silence(visit)) if hangs else tuple(checks),
        speed=_speed(visit),
        sent_bytes=visit.sent_bytes,
        received_bytes=visit.received_bytes,
        seconds=time.monotonic() - visit.began,
        transfer=store.capabilities.transfer,
        limits=store.capabilities.limits,
        hangs=hangs,
    )


def _silence(visit: Visit) -> Check:
    waited_s = time.monotonic() - visit.began
    hint = "check the address, the credentials and the network"
    return Check(visit.doing, ok=False, detail=f"no answer after {waited_s:.0f} s", hint=hint)


def _examine(visit: Visit, checks: list[Check]) -> None:
    checks.extend(_reached(visit))
    if checks[-1].name == "write" and checks[-1].ok:
        checks.extend(_remaining(visit))  # one by one, so that they are reported even if the next never ends
    checks.extend(_cleaned(visit))


def _reached(visit: Visit) -> Iterator[Check]:
    """Yield whether the store answers and takes an object; rights to list and to write are looked at apart."""
    answers, error = _tried(visit, "reach", reach, "check the credentials, and allow listing of this prefix")
    yield answers
    if error is not None and not isinstance(error, AccessDenied):
        return
    writes, _ = _tried(visit, *CHECKS[0])
    if answers.ok or writes.ok:
        yield writes
    if answers.ok and not writes.ok:
        yield _tried(visit, "read", read_existing, "allow s3:GetObject or storage.objects.get below this prefix")[0]


def _remaining(visit: Visit) -> Iterator[Check]:
    for name, work, hint in CHECKS[1:]:
        check, error = _tried(visit, name, work, hint)
        yield check
        if isinstance(error, TooSlow):
            return


def _tried(visit: Visit, name: str, work: Callable[[Visit], str], hint: str) -> tuple[Check, Exception | None]:
    visit.doing = name
    try:
        return Check(name, ok=True, detail=work(visit)), None
    except Finding as finding:
        return Check(name, ok=False, detail=str(finding), hint=finding.hint), finding
    except CkptStoreError as error:
        return Check(name, ok=False, detail=str(error), hint=_hint(visit, hint, error)), error
    except Exception as error:  # noqa: BLE001  # a backend of somebody else, which shall not end the examination
        return Check(name, ok=False, detail=f"the backend failed with {type(error).__name__}{_said(error)}"), error
    finally:
        visit.answered.set()


def _said(error: Exception) -> str:
    """Return what an error of somebody else's says, on a line, its URLs without what may be secret."""
    text = " ".join(_URL.sub(lambda url: redact(url.group()), str(error)).split())
    return f": {text[:_SAID_LETTERS]}" if text else ""


def _hint(visit: Visit, hint: str, error: CkptStoreError) -> str:
    """Return what to allow where access was denied: rights of a bucket, or of the user on this machine."""
    if not isinstance(error, AccessDenied):
        return ""
    if hint and isinstance(visit.store.path("k"), Path):
        return (
            "let this user read and write the folder (its owner and mode), and see that it is not mounted read-only"
        )
    return hint


def _cleaned(visit: Visit) -> Iterator[Check]:
    """Remove what an examination that ended early left; yield a check only when that fails."""
    if not visit.sent_bytes or visit.clean:
        return
    try:
        visit.clean_up()
    except CkptStoreError as error:
        yield Check("clean up", ok=False, detail=str(error), hint=f"remove {visit.folder} by hand")


def _speed(visit: Visit) -> Speed:
    return Speed(
        up_mb_s=None if visit.up_s is None else LARGE_BYTES / 1e6 / visit.up_s,
        down_mb_s=None if visit.down_s is None else LARGE_BYTES / 1e6 / visit.down_s,
        put_ms=None if visit.put_s is None else visit.put_s * 1e3,
        get_ms=None if visit.get_s is None else visit.get_s * 1e3,
    )
