"""Walk the folders of an fsspec filesystem in the order that a store lists in.

Not by `find`: its walk takes a folder that cannot be listed for an empty one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ckptstore.errors import InvalidKey, KeyNotFound, StoreError
from ckptstore.objects import check_key
from ckptstore_backends._generic_client import GenericClient
from ckptstore_backends._generic_publish import fresh

Entry = tuple[str, Mapping[str, Any]]


def walk(client: GenericClient, root: str, prefix: str) -> Iterator[Entry]:
    """Yield (key, info) of every file below a prefix, by the UTF-8 bytes of the key; drafts too."""
    for name, found in entries(client, root, prefix):
        if found["type"] == "directory":
            yield from walk(client, root, f"{prefix}{name}/")
        else:
            yield prefix + name, found


def entries(client: GenericClient, root: str, prefix: str) -> list[Entry]:
    """Return (name, info) of the files and folders in a folder; a folder sorts as if its name ended in "/"."""
    folder = f"{root}/{prefix}".rstrip("/")
    asked = f"list {prefix!r}"
    try:
        listed = client.call(asked, lambda filesystem: fresh(filesystem).ls(folder or "/", detail=True))
    except (KeyNotFound, InvalidKey):
        return []
    except StoreError:
        if _is_file(client, folder, asked):
            return []
        raise
    named = [(_name(found), _followed(client, found, asked)) for found in listed if not _is_itself(found, folder)]
    return sorted((entry for entry in named if entry[1]["type"] in {"file", "directory"}), key=_place_in_order)


def _place_in_order(entry: Entry) -> bytes:
    name, found = entry
    return (f"{name}/" if found["type"] == "directory" else name).encode(errors="replace")


def is_key(key: str) -> bool:
    """Whether an object may have that key."""
    try:
        check_key(key)
    except InvalidKey:
        return False
    return True


def _is_file(client: GenericClient, path: str, asked: str) -> bool:
    try:
        return bool(client.call(asked, lambda filesystem: filesystem.info(path))["type"] == "file")
    except StoreError:
        return False


def _is_itself(found: Mapping[str, Any], folder: str) -> bool:
    return str(found["name"]).strip("/") == folder.strip("/")


def _name(found: Mapping[str, Any]) -> str:
    return str(found["name"]).rstrip("/").rpartition("/")[2]


def _followed(client: GenericClient, found: Mapping[str, Any], asked: str) -> Mapping[str, Any]:
    """Return what a link to a file leads to; one to a folder is not followed, it may lead in circles."""
    if found["type"] in {"file", "directory"}:
        return found
    try:
        target: Mapping[str, Any] = client.call(asked, lambda filesystem: filesystem.info(found["name"]))
    except KeyNotFound:
        return found
    return target if target["type"] == "file" else found
