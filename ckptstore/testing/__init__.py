"""Certify a backend, and prove what the layers above promise when a store fails.

`StoreTests` is the whole contract of `ckptstore.store.Store` as a pytest class; `FaultyStore` wraps a real
store and injects faults. Needs pytest, which the library itself does not.
"""

import pytest

pytest.register_assert_rewrite(
    "ckptstore.testing.addressing",
    "ckptstore.testing.creating",
    "ckptstore.testing.listing",
    "ckptstore.testing.reading",
    "ckptstore.testing.sharing",
    "ckptstore.testing.writing",
)

from ckptstore.testing.contract import StoreTests  # noqa: E402  # after the rewrite is registered
from ckptstore.testing.faults import Call, CutPut, Fail, Fault, FlipBit, Killed, Truncate  # noqa: E402
from ckptstore.testing.faulty import FaultyStore  # noqa: E402

__all__ = ["Call", "CutPut", "Fail", "Fault", "FaultyStore", "FlipBit", "Killed", "StoreTests", "Truncate"]
