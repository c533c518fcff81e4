"""Which fsspec implementation serves a URL, and whether its options fit."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import urlsplit

from ckptstore.errors import InvalidKey, InvalidURL, MissingDependency, UnknownBackend
from ckptstore.objects import check_prefix, redact

# Wrappers around other filesystems: they cache, or publish when they are closed; and what has no place of its own.
_NO_PLACES = frozenset({
    "async_wrapper", "asyncwrapper", "blockcache", "cached", "data", "dir", "filecache", "generic", "libarchive",
    "reference", "simplecache", "tar", "zip",
})  # fmt: skip
_IN_PLACE_OF = {"local": "file", "asynclocal": "file"}


def implementation(url: str) -> type[Any]:
    """Return the fsspec class for a URL.

    Raises:
        UnknownBackend: neither we nor fsspec know the scheme.
        MissingDependency: fsspec knows it, and what it needs is not installed.
        InvalidURL: the scheme is served by another URL, or by no place at all.
    """
    from fsspec.registry import get_filesystem_class, known_implementations

    scheme = scheme_of(url)
    if scheme in _NO_PLACES:
        raise InvalidURL(f"{redact(url)!r} is a view of another filesystem; open the place itself by its own URL")
    if scheme in _IN_PLACE_OF:
        raise InvalidURL(f"{redact(url)!r} is a local path; write {_IN_PLACE_OF[scheme]}:// or a plain path")
    try:
        found: type[Any] = get_filesystem_class(scheme)
    except ValueError:
        raise UnknownBackend(
            f"no backend for {scheme!r} in {redact(url)!r} (known: {', '.join(_known())}); "
            "install the package that brings it"
        ) from None
    except ImportError as error:
        hint = known_implementations.get(scheme, {}).get("err") or f"it needs {error.name or error}"
        raise MissingDependency(f"the fsspec filesystem for {scheme!r} is not installed: {hint}") from error
    return found


def scheme_of(url: str) -> str:
    """Return the scheme in lower case."""
    return url.partition("://")[0].lower()


def checked_address(url: str) -> str:
    """Return the URL without a slash at its end.

    Raises:
        InvalidURL: with user-info, query or fragment, or a folder that is outside the key grammar.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise InvalidURL(
            f"{redact(url)!r} came with user-info; pass it by name, such as username= and password=, "
            "or account_name= with az://container/path"
        )
    if "?" in url or "#" in url:
        raise InvalidURL(f"{redact(url)!r} came with '?' or '#'; pass options by name, and leave both out of a path")
    path = url.partition("://")[2].rstrip("/")
    folder = path.removeprefix(parts.netloc).strip("/")
    try:
        check_prefix(f"{folder}/" if folder else "")
    except InvalidKey as error:
        raise InvalidURL(f"{redact(url)!r} cannot be the place of a store: {error}") from None
    if not path:
        raise InvalidURL(f"{redact(url)!r} names no place; write {scheme_of(url)}://place/folder")
    return f"{scheme_of(url)}://{path}"


def check_options(kind: type[Any], options: Mapping[str, Any], scheme: str) -> None:
    """Refuse an option that the implementation has no parameter for.

    Most implementations hand unknown options on to their client, and complain on first use.

    Raises:
        TypeError: naming the option.
    """
    parameters = inspect.signature(kind.__init__).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    if unknown := sorted(set(options) - set(parameters)):
        raise TypeError(f"unknown option {unknown[0]!r} for {scheme} (known: {', '.join(sorted(parameters))})")


def _known() -> list[str]:
    from fsspec.registry import known_implementations, registry

    ours = {point.name for point in entry_points(group="ckptstore.backends")} - {"*"}
    return sorted(ours | ((set(known_implementations) | set(registry)) - _NO_PLACES - set(_IN_PLACE_OF)))
