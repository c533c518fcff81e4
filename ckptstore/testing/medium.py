"""What a backend's test class provides: a store, and hands that reach its medium without the Store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import pytest

from ckptstore.store import Store, open_store

__all__ = ["Medium"]


class Medium(ABC):
    """The hooks of `ckptstore.testing.StoreTests`."""

    deviations: ClassVar[Mapping[str, str]] = {}
    """Tests that this backend cannot pass, each with its reason.

    Keys are test names, ``test_x`` or ``test_x[parameter]``. Such a test still runs, as a strict xfail: the
    report shows the reason, and a test that passes after all is a failure, so that the mark is taken away.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        unknown = sorted(name for name in cls.deviations if not hasattr(cls, name.partition("[")[0]))
        if unknown:
            raise TypeError(f"{cls.__name__}.deviations names tests that do not exist: {', '.join(unknown)}")

    @pytest.fixture(autouse=True)
    def _mark_deviation(self, request: pytest.FixtureRequest) -> None:
        names = (request.node.name, request.node.name.partition("[")[0])
        for reason in filter(None, map(self.deviations.get, names)):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    @abstractmethod
    def seed(self, store: Any, key: str, data: bytes) -> None:
        """Lay an object into the medium without the store."""

    @abstractmethod
    def peek(self, store: Any, key: str) -> bytes | None:
        """Return an object's bytes from the medium without the store, None when there is no object."""

    def seed_many(self, store: Any, objects: Mapping[str, bytes]) -> None:
        """Lay thousands of objects into the medium; override it where `seed` is slow."""
        for key, data in objects.items():
            self.seed(store, key, data)

    def opener(self, store: Any) -> Callable[[], Store]:
        """Return what opens the same place in another process; it is pickled. Override it to pass options."""
        return partial(open_store, store.url)

    def secrets(self, store: Any) -> tuple[str, ...]:  # noqa: ARG002  # most media have none
        """Return the texts that must appear in no message, address or repr."""
        return ()
