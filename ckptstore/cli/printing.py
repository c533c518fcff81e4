"""``ckptstore cat``: a companion file as it is, or what a checkpoint holds."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ckptstore.cli.addresses import Address, WrongUse, parse_address
from ckptstore.cli.amounts import count_text, number_text, size_text
from ckptstore.cli.answers import Answer, fact_table, table
from ckptstore.cli.command import Call, Words, command
from ckptstore.cli.panels import LOOK
from ckptstore.errors import KeyNotFound
from ckptstore.objects import redact

if TYPE_CHECKING:
    from ckptstore.archive import Index
    from ckptstore.objects import Buffer
    from ckptstore.store import Store

__all__ = ["cat"]

_CHUNK_BYTES = 8 * 1024 * 1024
_MOST_TEXT_BYTES = 8 * 1024 * 1024
_TEXTS = (".yaml", ".txt", ".sha256", ".json", ".md", ".csv", ".log")
_CHECKPOINTS = (".pt", ".pt.zst")


@command("cat", panel=LOOK, usage="[STORE] KEY|HASH[@STEP]")
def cat(call: Call, words: Words = None) -> Answer:
    """Print a small file, or what a checkpoint holds.

    KEY is a key, or the file name in it: a config, a record or a printed architecture is printed, anything else is
    copied to standard output as it is. Of a checkpoint (the latest by default) header, names and shapes are printed;
    its tensors are not read.
    """
    words = words or []
    if not 1 <= len(words) <= 2:
        raise WrongUse(f"{len(words)} words were given; cat takes a store, or none, and one key or hash")
    from ckptstore.cli.selection import chosen_checkpoint, chosen_experiment

    address = parse_address(words[-1])
    if address is not None:
        store, _ = call.opened(words, at_most=1)
        experiment = chosen_experiment(store, address)
        return _checkpoint(store, chosen_checkpoint(experiment, address.step).info.key)
    store = call.open(call.place(words[0] if len(words) == 2 else None))
    key = _key(words[-1])
    try:
        return _checkpoint(store, key) if key.endswith(_CHECKPOINTS) else _file(store, key, call)
    except KeyNotFound:
        if (exp_hash := _hash_in(key)) is not None:
            chosen_experiment(store, Address(exp_hash))  # a mistyped hash is told with those that are there
        raise KeyNotFound(f"no {words[-1]} in {redact(store.url)}; `ckptstore ls HASH` shows what there is") from None


def _key(word: str) -> str:
    """Return the key; of a bare file name of the layout, the key that it has."""
    from ckptstore import keys

    if "/" in word:
        return word
    for folder in ("model", "hp", "data"):
        key = f"{keys.CHECKPOINTS}{word[:16]}/{folder}/{word}"
        if keys.parse_key(key) is not None:
            return key
    return word


def _hash_in(key: str) -> str | None:
    from ckptstore import keys

    parsed = keys.parse_key(key)
    return parsed.exp_hash if parsed else None


def _file(store: Store, key: str, call: Call) -> Answer:
    info = store.stat(key)
    plain = {"key": key, "store": redact(store.url), "size_bytes": info.size_bytes, "modified": info.modified}
    if key.endswith(_TEXTS) and info.size_bytes <= _MOST_TEXT_BYTES:
        data = bytes(store.get(key))
        return Answer({**plain, "text": data.decode(errors="replace")}, raw=[data])
    if sys.stdout.isatty() and not call.as_document and not key.endswith(_TEXTS):
        raise WrongUse(
            f"{key} is not text ({size_text(info.size_bytes)}); send it to a file: ckptstore cat ... > FILE"
        )
    return Answer({**plain, "text": None}, raw=_chunks(store, key, info.size_bytes, info.version))


def _chunks(store: Store, key: str, size_bytes: int, version: str) -> Iterator[Buffer]:
    from ckptstore.objects import ByteRange

    starts = range(0, size_bytes, _CHUNK_BYTES)
    return store.get_ranges(key, [ByteRange(start, _CHUNK_BYTES) for start in starts], version=version)


def _checkpoint(store: Store, key: str) -> Answer:
    from ckptstore import archive
    from ckptstore.comparing.headers import described, facts

    index = archive.read_index(store, key)
    header = {name: value for name, value in index.state.items() if name != "model_state_dict"}
    plain = {"key": key, "store": redact(store.url), "size_bytes": index.size_bytes, "digest": index.digest,
             "header": described(header), "tensors": list(_tensors(index))}  # fmt: skip
    return Answer(plain, tuple(_page(plain, facts(header))))


def _tensors(index: Index) -> Iterator[dict[str, Any]]:
    from ckptstore.archive import TensorRef

    records = {record.name: record for record in index.records}
    model = index.state.get("model_state_dict")
    for name, ref in model.items() if isinstance(model, dict) else ():
        if isinstance(ref, TensorRef):
            record = records[ref.record]
            yield {
                "name": name,
                "dtype": ref.dtype_name,
                "shape": list(ref.shape),
                "record": ref.record,
                "size_bytes": record.size_bytes,
                "crc32": f"{record.crc32:08x}",
            }


def _page(plain: dict[str, Any], header: dict[str, Any]) -> Iterator[Any]:
    from ckptstore.comparing.values import leaves

    yield f"{plain['key']}\n"
    also = [name for name, value in plain["header"].items() if name not in header and value is not None]
    lines = [(path, number_text(value) if isinstance(value, float) else str(value)) for path, value in leaves(header)]
    yield fact_table([*lines, ("also", ", ".join(also)), ("size", size_text(plain["size_bytes"]))])
    tensors = plain["tensors"]
    elements = sum(math.prod(tensor["shape"]) for tensor in tensors)
    yield f"\n{count_text(len(tensors), 'tensor')}, {count_text(elements, 'element')}"
    rows = table("*tensor", "dtype", "*shape", ">size", "crc32")
    for tensor in tensors:
        size = size_text(tensor["size_bytes"])
        rows.add_row(tensor["name"], tensor["dtype"], str(tensor["shape"]), size, tensor["crc32"])
    yield rows
