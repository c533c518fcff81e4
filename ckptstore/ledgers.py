"""Named models and optimizers, so that saving and loading need not be handed the objects.

The module's functions work on one ledger per process, `GLOBAL_LEDGER`. All of it is safe to call from any thread.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from ckptstore.errors import LedgerError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class _Registry(Generic[T]):
    # Every act is one operation on a dict, which is atomic: there is no lock that a fork could leave held.

    def __init__(self, kind: str, method: str) -> None:
        self._kind = kind
        self._method = method
        self._entries: dict[str, Callable[[], T | None]] = {}

    def register(self, name: str, value: T, *, weak: bool) -> None:
        if not isinstance(name, str) or not name:
            raise LedgerError(f"{self._kind} name {name!r} is not a non-empty str")
        if not hasattr(value, self._method):
            raise LedgerError(f"{self._kind} {name!r} is a {type(value).__name__}; register the object itself")
        self._entries[name] = weakref.ref(value) if weak else lambda: value

    def get(self, name: str | None) -> T:
        living = self.living()
        if name is None:
            return living[self._only(living)]
        if name in living:
            return living[name]
        if name in self._entries:
            raise LedgerError(f"{self._kind} {name!r} was registered with weak=True and is gone; register it again")
        raise LedgerError(f"no {self._kind} {name!r} in the ledger ({_listing(living)})")

    def living(self) -> dict[str, T]:
        found = {name: reference() for name, reference in sorted(dict(self._entries).items())}
        return {name: value for name, value in found.items() if value is not None}

    def unregister(self, name: str) -> None:
        if self._entries.pop(name, None) is None:
            raise LedgerError(f"no {self._kind} {name!r} in the ledger ({_listing(self.living())})")

    def clear(self) -> None:
        self._entries.clear()

    def _only(self, living: dict[str, T]) -> str:
        if len(living) != 1:
            raise LedgerError(f"which {self._kind}? give its name or the object itself ({_listing(living)})")
        return next(iter(living))


def _listing(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"registered: {listed}" if listed else "none is registered"


class Ledger:
    """Models and optimizers by name.

    Registering a name again replaces what it stood for. With ``weak=True`` the ledger does not keep the object alive.
    """

    def __init__(self) -> None:
        self._models: _Registry[torch.nn.Module] = _Registry("model", "state_dict")
        self._optimizers: _Registry[torch.optim.Optimizer] = _Registry("optimizer", "param_groups")

    def register_model(self, name: str, model: torch.nn.Module, weak: bool = False) -> None:  # noqa: FBT001, FBT002
        """Register a model under a name."""
        self._models.register(name, model, weak=weak)

    def get_model(self, name: str | None = None) -> torch.nn.Module:
        """Return the model of that name; without a name the only one registered.

        Raises:
            LedgerError: no such name, or not exactly one to choose from; lists the names.
        """
        return self._models.get(name)

    def list_models(self) -> list[str]:
        """Return the names of the models that are alive, sorted."""
        return list(self._models.living())

    def unregister_model(self, name: str) -> None:
        """Forget a model.

        Raises:
            LedgerError: no such name.
        """
        self._models.unregister(name)

    def register_optimizer(
        self,
        name: str,
        optimizer: torch.optim.Optimizer,
        weak: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Register an optimizer under a name."""
        self._optimizers.register(name, optimizer, weak=weak)

    def get_optimizer(self, name: str | None = None) -> torch.optim.Optimizer:
        """Return the optimizer of that name; without a name the only one registered.

        Raises:
            LedgerError: no such name, or not exactly one to choose from; lists the names.
        """
        return self._optimizers.get(name)

    def list_optimizers(self) -> list[str]:
        """Return the names of the optimizers that are alive, sorted."""
        return list(self._optimizers.living())

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimizers that are alive, by name."""
        return self._optimizers.living()

    def unregister_optimizer(self, name: str) -> None:
        """Forget an optimizer.

        Raises:
            LedgerError: no such name.
        """
        self._optimizers.unregister(name)

    def clear(self) -> None:
        """Forget everything."""
        self._models.clear()
        self._optimizers.clear()


GLOBAL_LEDGER = Ledger()
"""The ledger that the module's functions and every manager use."""

register_model = GLOBAL_LEDGER.register_model
get_model = GLOBAL_LEDGER.get_model
list_models = GLOBAL_LEDGER.list_models
unregister_model = GLOBAL_LEDGER.unregister_model
register_optimizer = GLOBAL_LEDGER.register_optimizer
get_optimizer = GLOBAL_LEDGER.get_optimizer
list_optimizers = GLOBAL_LEDGER.list_optimizers
unregister_optimizer = GLOBAL_LEDGER.unregister_optimizer
clear = GLOBAL_LEDGER.clear
