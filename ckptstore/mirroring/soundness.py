"""What a mirror does not do although it was asked to: let something unsound take the place of something sound."""

from __future__ import annotations

from ckptstore import keys
from ckptstore.errors import CorruptCheckpoint, KeyExists
from ckptstore.objects import ObjectInfo, redact
from ckptstore.store import Store


def check_replacement(source: Store, ours: ObjectInfo, target: Store, theirs: ObjectInfo) -> None:
    """Read what wins a conflict, and where that is damaged what it would overwrite.

    Raises:
        CorruptCheckpoint: the source's is damaged and the target's is not; nothing was changed.
    """
    from ckptstore.verifying.examination import examined  # brings torch, and conflicts are rare

    if keys.parse_key(ours.key) is None:
        return
    finding = examined(source, ours, _untold)
    if finding is None or finding.kind != "damaged":
        return
    there = examined(target, theirs, _untold)
    if there is None or there.kind != "damaged":
        raise CorruptCheckpoint(
            f"{ours.key!r} is damaged in {redact(source.url)} ({finding.detail}) and not in {redact(target.url)}, "
            "where it stays; repair it: verify the source with repair_from the target"
        )


def check_same_checkpoint(store: Store, leaving: ObjectInfo, staying: ObjectInfo) -> None:
    """Read both forms of a checkpoint, of which one is to go.

    Raises:
        KeyExists: they hold two checkpoints.
        CorruptCheckpoint: the compressed one is damaged.
    """
    from ckptstore.archive.content import PlainContent
    from ckptstore.compression.copies import content_digest
    from ckptstore.packing import PackedContent

    packed, plain = sorted((leaving, staying), key=lambda info: not info.key.endswith(keys.COMPRESSED))
    try:
        same = content_digest(PackedContent(store, packed)) == content_digest(PlainContent(store, plain))
    except CorruptCheckpoint as error:
        raise CorruptCheckpoint(
            f"not deleted, as {packed.key!r} in {redact(store.url)} is damaged: {error}"
        ) from None
    if not same:
        raise KeyExists(
            f"{leaving.key!r} in {redact(store.url)} does not hold the checkpoint of {staying.key!r}, so it was not "
            "deleted; verify both stores, or choose on_conflict source"
        )


def _untold(size_bytes: int) -> None:
    """Tell nobody of bytes that were read for nothing but a check."""
