"""Keep every checkpoint of an ML experiment next to the proof of what produced it."""

from ckptstore._version import __version__
from ckptstore.store import Store, open_store

__all__ = ["Store", "__version__", "open_store"]
