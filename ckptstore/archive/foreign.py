"""Read what torch.save wrote: its zip format, verified by the CRC32 of each record, and the format before that."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

from ckptstore.archive.content import Content
from ckptstore.errors import CorruptCheckpoint, UnsupportedFormat
from ckptstore.objects import ByteRange

__all__ = ["is_foreign", "load_foreign"]

_ZIP, _ZIP_END = b"PK\3\4", b"PK\5\6"
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""How a file of torch.save before 1.6 begins: the pickle of its magic number."""


def is_foreign(first: bytes) -> bool:
    """Whether the first 64 bytes of an object are those of a file that torch.save wrote, sound or not."""
    return first.startswith((_ZIP, LEGACY))


def load_foreign(content: Content, map_location: Any) -> Any:
    """Read all of it and load it with ``torch.load(weights_only=True)``.

    Raises:
        UnsupportedFormat: it holds more than tensors and plain data, or is a TorchScript program.
        CorruptCheckpoint: truncated, changed, or never a checkpoint.
    """
    file = io.BytesIO(b"".join(content.read([ByteRange(0)])))
    first = file.getbuffer()[:64].tobytes()
    if not first:
        raise CorruptCheckpoint("it is empty")
    if first.startswith(_ZIP):
        _check_zip(file)
    elif not first.startswith(LEGACY):
        raise CorruptCheckpoint(f"it begins with {first[:16]!r}, as no checkpoint does")
    return _torch_load(file, map_location)


def _check_zip(file: io.BytesIO) -> None:
    end = file.getbuffer()[-22:].tobytes()
    if not end.startswith(_ZIP_END) or not end.endswith(b"\0\0"):  # zipfile would take a comment that is cut off
        raise CorruptCheckpoint("its zip container is truncated, or ends otherwise than those of torch.save")
    try:
        with zipfile.ZipFile(file) as archive:
            _check_entries(archive)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError, OSError) as error:
        if isinstance(error, CorruptCheckpoint):
            raise
        raise CorruptCheckpoint(f"its zip container is damaged ({error})") from None


def _check_entries(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise UnsupportedFormat("it is a TorchScript program; its code is never executed")
    if "data.pkl" not in names:
        raise CorruptCheckpoint("it is a zip file without data.pkl, so no checkpoint")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise UnsupportedFormat("it is a compressed zip file; torch.save writes stored ones")
    if not any(entry.CRC for entry in entries):
        return  # written after torch.serialization.set_crc32_options(False)
    if damaged := archive.testzip():
        raise CorruptCheckpoint(f"record {damaged} does not match its CRC32; its bytes were changed")


def _torch_load(file: io.BytesIO, map_location: Any) -> Any:
    import torch  # not above: what only tells such files apart does without it

    file.seek(0)
    try:
        return torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsupportedFormat(
            f"{_first_line(error)}; what is not tensors and plain data is never executed"
        ) from None
    except Exception as error:  # noqa: BLE001  # torch does not say what a damaged file raises
        raise CorruptCheckpoint(f"torch.load refuses it ({type(error).__name__}: {_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
