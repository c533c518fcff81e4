"""Objects in the memory of this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from ckptstore.errors import InvalidKey, InvalidURL, KeyExists, KeyNotFound, ObjectChanged
from ckptstore.objects import ByteRange, Capabilities, ObjectInfo, check_key, redact
from ckptstore.store import Store

if TYPE_CHECKING:
    from upath import UPath

__all__ = ["MemoryStore"]

_SCHEME = "memory://"


class MemoryStore(Store):
    """Objects in the memory of this process, shared by all stores of the same name until it ends.

    They lie in fsspec's own memory file system, so `path` gives what fsspec, pandas and others can read. Single
    operations on a dict replace locks: what one thread does is whole for another, and a fork inherits no lock
    that nobody will release. After a fork each side has objects of its own. It may be pickled.
    """

    def __init__(self, name: str) -> None:
        """Take a name; nothing is made.

        Args:
            name: of the same grammar as a key. ``a`` holds the objects of ``a/b`` too, as folders do.
        """
        self._name = check_key(name)

    @classmethod
    def from_url(cls, url: str) -> Self:  # type: ignore[override]  # no options: Python's own TypeError names one
        """Return the store for a ``memory://name`` URL."""
        name = url[len(_SCHEME) :].rstrip("/")
        if not name:
            raise InvalidURL(f"{redact(url)!r} has no name; write memory://name")
        try:
            return cls(name)
        except InvalidKey as error:
            raise InvalidURL(f"{redact(url)!r} holds no name of a memory: {error}") from error

    @property
    def url(self) -> str:
        """The name as a ``memory://`` URL."""
        return _SCHEME + self._name

    @property
    def capabilities(self) -> Capabilities:
        """All but durability."""
        return Capabilities(
            atomic_create=True,
            durable=False,
            server_side_copy=True,
            transfer="memory",
            limits=("objects are seen by this process alone and end with it",),
        )

    def _path(self, key: str) -> UPath:
        from upath import UPath

        path: UPath = UPath(f"{self.url}/{key}")
        return path

    def _get(self, key: str) -> memoryview:
        return memoryview(bytearray(self._found(key).getvalue()))

    def _get_ranges(self, key: str, ranges: Sequence[ByteRange], version: str | None) -> Iterator[memoryview]:
        if not ranges:
            return
        found = self._found(key)
        if version not in {None, _version(found)}:
            raise ObjectChanged(f"cannot get {key!r} from {self.url}: it was replaced; read it again")
        data = memoryview(found.getvalue())
        for wanted in ranges:
            start, stop = wanted.within(len(data))
            yield memoryview(bytearray(data[start:stop]))

    def _stat(self, key: str) -> ObjectInfo:
        return _info(key, self._found(key))

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        files = _files()
        for key in self._keys(prefix):
            found = files.get(self._place(key))
            if found is not None:  # deleted meanwhile
                yield _info(key, found)

    def _list_prefixes(self, prefix: str) -> Iterator[str]:
        below = (key[len(prefix) :].partition("/") for key in self._keys(prefix))
        yield from (prefix + name + "/" for name in dict.fromkeys(name for name, slash, _ in below if slash))

    def _put(self, key: str, body: memoryview | Iterator[memoryview]) -> ObjectInfo:
        made = self._made(key, bytes(body) if isinstance(body, memoryview) else b"".join(body))
        _files()[self._place(key)] = made
        return _info(key, made)

    def _create(self, key: str, body: memoryview) -> ObjectInfo:
        made = self._made(key, bytes(body))
        if _files().setdefault(self._place(key), made) is not made:
            raise KeyExists(f"cannot put {key!r} into {self.url}: an object has that key already")
        return _info(key, made)

    def _delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            _files().pop(self._place(key), None)

    def _copy(self, key: str, target_key: str, target: Store) -> ObjectInfo:
        return target.put(target_key, self._found(key).getvalue())

    def _place(self, key: str) -> str:
        return f"/{self._name}/{key}"

    def _keys(self, prefix: str) -> list[str]:
        root = self._place("")
        return sorted(
            (place[len(root) :] for place in list(_files()) if place.startswith(root + prefix)), key=str.encode
        )

    def _found(self, key: str) -> Any:
        found = _files().get(self._place(key))
        if found is None:
            raise KeyNotFound(f"no object {key!r} in {self.url}")
        return found

    def _made(self, key: str, data: bytes) -> Any:
        from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

        return MemoryFile(MemoryFileSystem(), self._place(key), data)


def _files() -> dict[str, Any]:
    from fsspec.implementations.memory import MemoryFileSystem

    files: dict[str, Any] = MemoryFileSystem.store
    return files


def _info(key: str, found: Any) -> ObjectInfo:
    return ObjectInfo(key, len(found.getvalue()), found.modified, _version(found))


def _version(found: Any) -> str:
    return f"{found.modified.timestamp():.6f}-{id(found):x}"
