"""Seal the small files beside a checkpoint, so that each carries its own checksum.

A text (YAML, .txt) begins with a comment that promises a seal and ends in ``# sha256: <hex of the bytes above>``;
the promise is what tells a cut file from one that an older tool wrote without a seal. A pickle carries the same in a
trailer after its STOP, which unpickling ignores. The line of a backup is what ``sha256sum -c`` reads.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from ckptstore.errors import CorruptCheckpoint
from ckptstore.objects import Buffer

_PROMISE = b"# written by ckptstore; the last line is the checksum of the lines above\n"
_TEXT_SEAL = re.compile(rb"# sha256: ([0-9a-f]{64})\n?\Z")
_PICKLE_SEAL = re.compile(
    rb"\nckptstore-architecture python=([0-9]+\.[0-9]+) classes=(value|name) sha256=([0-9a-f]{64})\n\Z"
)


def seal_text(text: str) -> bytes:
    """Return the text as a sealed file."""
    body = _PROMISE + (text if text.endswith("\n") else text + "\n").encode()
    return body + b"# sha256: " + _sha256(body) + b"\n"


def open_text(data: Buffer, where: str) -> str:
    """Return the text of a file, checked against its seal where it has or promises one.

    Args:
        data: the file's bytes.
        where: key and store, for the message.

    Raises:
        CorruptCheckpoint: the seal is broken or missing, or the bytes are not UTF-8.
    """
    raw = bytes(data)
    seal = _TEXT_SEAL.search(raw)
    body = raw[: seal.start()] if seal else raw
    if seal and seal[1] != _sha256(body):
        raise CorruptCheckpoint(
            f"{where} does not match its own checksum; restore it from another store, "
            "or, if you edited it, delete its first and last line"
        )
    if not seal and (raw.startswith(_PROMISE) or _PROMISE.startswith(raw)):
        raise CorruptCheckpoint(f"{where} is cut: its checksum is missing; restore it from another store")
    try:
        return body.removeprefix(_PROMISE).decode()
    except UnicodeDecodeError as error:
        raise CorruptCheckpoint(f"{where} is not UTF-8 text ({error.reason} at byte {error.start})") from None


def has_seal(data: Buffer) -> bool:
    """Whether a text ends in a seal, right or wrong; an older tool wrote none."""
    return _TEXT_SEAL.search(data) is not None


@dataclass(frozen=True, slots=True)
class SealedPickle:
    """A pickle and what its trailer says.

    Attributes:
        body: the pickle itself.
        python: the "major.minor" that wrote it, None where an older tool wrote no trailer.
        by_value: it holds classes by value, which only that Python can read.
    """

    body: bytes
    python: str | None
    by_value: bool


def seal_pickle(sealed: SealedPickle) -> bytes:
    """Return the pickle with its trailer."""
    classes = b"value" if sealed.by_value else b"name"
    head = b"\nckptstore-architecture python=" + str(sealed.python).encode() + b" classes=" + classes + b" sha256="
    return sealed.body + head + _sha256(sealed.body + head) + b"\n"


def open_pickle(data: Buffer, where: str) -> SealedPickle:
    """Return the pickle of a file, checked against its trailer where it has one; nothing is unpickled.

    Raises:
        CorruptCheckpoint: the bytes do not match the trailer.
    """
    raw = bytes(data)
    seal = _PICKLE_SEAL.search(raw)
    if seal is None:
        return SealedPickle(raw, None, by_value=False)
    if seal[3] != _sha256(raw[: seal.start(3)]):
        raise CorruptCheckpoint(f"{where} does not match its own checksum; restore it from another store")
    return SealedPickle(raw[: seal.start()], seal[1].decode(), by_value=seal[2] == b"value")


def digest_line(digest: str, name: str) -> bytes:
    """Return the line that ``sha256sum -c`` reads, for a file beside it."""
    return f"{digest}  {name}\n".encode()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
