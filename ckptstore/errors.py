"""Every error that ckptstore raises, in one tree.

Each class is also the builtin that a reader would think of catching::

    CkptStoreError
    ├── StoreError (OSError)                    what a store can answer
    │   ├── KeyNotFound (FileNotFoundError)     no object has that key
    │   ├── KeyExists (FileExistsError)         an atomic create lost
    │   ├── StoreNotFound (FileNotFoundError)   the bucket or the root itself is missing
    │   ├── AccessDenied (PermissionError)      credentials or rights are missing or wrong
    │   ├── StoreFull                           no space, or a quota is used up
    │   ├── StoreUnavailable (ConnectionError)  unreachable, or failing after every retry
    │   └── ObjectChanged                       replaced while it was being read
    ├── InvalidKey (ValueError)                 a key outside the key grammar
    ├── InvalidURL (ValueError)                 a store URL that cannot be understood
    ├── UnknownBackend (ValueError)             no backend for that scheme
    ├── MissingDependency (ImportError)         the backend exists, an extra is not installed
    ├── UnsupportedOperation (NotImplementedError)  the store cannot do this, see its capabilities
    ├── ConfigTypeError (TypeError)             a config value that has no plain form
    ├── UnsupportedModel (TypeError)            a module that cannot be described or saved
    ├── UnsupportedUID (TypeError)              sample UIDs of another type than str, bytes, int
    ├── UnknownSample (KeyError)                a discarded sample that was never added
    ├── UnsavableState (TypeError)              a state that weights_only loading would refuse
    ├── NoMemoryForSnapshot (MemoryError)       a background save found no memory for its copy of the state
    ├── SaveReplaced                            a background save gave way to a newer one before it began
    ├── SaveStalled (TimeoutError)              a background save made no progress and was given up
    ├── InvalidStep (ValueError)                a step that is negative or not an int
    ├── InvalidName (ValueError)                a config, backup or experiment name outside its grammar
    ├── SamePlace (ValueError)                  source and target are one place, or one lies in the other
    ├── MirrorIncomplete                        something was not mirrored; its report says what and why
    ├── NoExperiment (RuntimeError)             an operation needs a current experiment
    ├── UnknownExperiment (LookupError)         no experiment has that hash
    ├── CheckpointNotFound (FileNotFoundError)  the experiment has no such checkpoint or companion
    ├── CorruptCheckpoint (ValueError)          bytes that are not what was written
    │   └── UnsupportedFormat                   perhaps sound, but of a foreign format
    │       └── NewerFormat                     sound, but written by a newer version
    ├── IncompatibleCheckpoint (ValueError)     sound, but it does not fit the model or optimizer
    ├── PartlyLoaded (RuntimeError)             loading in place failed half-way; the model's values are undefined
    ├── UntrustedPickle (PermissionError)       a load that could run code was not allowed to
    ├── InvalidBackup (ValueError)              a data file that is not HDF5
    ├── BackupBusy (BlockingIOError)            a data file that somebody is writing
    └── LedgerError (LookupError)               no such name, or more than one to choose from
"""

from __future__ import annotations

from typing import Any


class CkptStoreError(Exception):
    """Root of the tree."""


class StoreError(CkptStoreError, OSError):
    """A store could not do what was asked."""


class KeyNotFound(StoreError, FileNotFoundError):
    """No object has that key."""


class KeyExists(StoreError, FileExistsError):
    """An object has that key already, and the put was told not to overwrite."""


class StoreNotFound(StoreError, FileNotFoundError):
    """The bucket or the root of the store does not exist."""


class AccessDenied(StoreError, PermissionError):
    """Credentials or rights are missing or wrong."""


class StoreFull(StoreError):
    """No space is left, or a quota is used up."""


class StoreUnavailable(StoreError, ConnectionError):
    """The store cannot be reached, or kept failing after every retry."""


class ObjectChanged(StoreError):
    """The object was replaced while it was being read."""


class InvalidKey(CkptStoreError, ValueError):
    """A key or prefix is outside the key grammar, or is a folder of another key."""


class InvalidURL(CkptStoreError, ValueError):
    """A store URL cannot be understood."""


class UnknownBackend(CkptStoreError, ValueError):
    """No installed backend serves that URL scheme."""


class MissingDependency(CkptStoreError, ImportError):
    """The backend is known, but a package that it needs is not installed."""


class UnsupportedOperation(CkptStoreError, NotImplementedError):
    """The store cannot do this; its capabilities say so beforehand."""


class ConfigTypeError(CkptStoreError, TypeError):
    """A config value has no plain form; the message names its path."""


class UnsupportedModel(CkptStoreError, TypeError):
    """A module cannot be described or saved as it is."""


class UnsupportedUID(CkptStoreError, TypeError):
    """Sample UIDs are str, bytes or int, given as an iterable."""


class UnknownSample(CkptStoreError, KeyError):
    """A sample that is not a member cannot be discarded."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class UnsavableState(CkptStoreError, TypeError):
    """A value in the state would be refused by weights_only loading; the message names its path."""


class NoMemoryForSnapshot(CkptStoreError, MemoryError):
    """There is no memory for the copy of the state that a background save makes; nothing was saved."""


class SaveReplaced(CkptStoreError):
    """A background save gave way to a newer one before it began."""


class SaveStalled(CkptStoreError, TimeoutError):
    """A background save made no progress for its deadline and was given up."""


class InvalidStep(CkptStoreError, ValueError):
    """A step is an int from 0 upwards."""


class InvalidName(CkptStoreError, ValueError):
    """A config name, backup name or experiment hash is outside its grammar."""


class SamePlace(CkptStoreError, ValueError):
    """Source and target are the same place, or one lies inside the other."""


class MirrorIncomplete(CkptStoreError):
    """Something was not mirrored: it failed, or the target holds other content under the same key.

    Attributes:
        report: what was done and what was not, a `ckptstore.mirroring.MirrorReport`.
    """

    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class NoExperiment(CkptStoreError, RuntimeError):
    """The operation needs a current experiment; call update_experiment_hash() first."""


class UnknownExperiment(CkptStoreError, LookupError):
    """No experiment in the store has that hash."""


class CheckpointNotFound(CkptStoreError, FileNotFoundError):
    """The experiment has no such checkpoint or companion file."""


class CorruptCheckpoint(CkptStoreError, ValueError):
    """The bytes are not what was written: truncated, flipped, or never a checkpoint."""


class UnsupportedFormat(CorruptCheckpoint):
    """The file is of a format that this version cannot read."""


class NewerFormat(UnsupportedFormat):
    """The file was written by a newer version of ckptstore; upgrade to read it."""


class IncompatibleCheckpoint(CkptStoreError, ValueError):
    """The checkpoint is sound but does not fit the given model or optimizer.

    Attributes:
        differences: one line for each difference.
    """

    def __init__(self, message: str, differences: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.differences = differences


class PartlyLoaded(CkptStoreError, RuntimeError):
    """Loading in place failed after its first byte: the values of model and optimizer are undefined."""


class UntrustedPickle(CkptStoreError, PermissionError):
    """Loading this could run code, and the caller did not say that the source is trusted."""


class InvalidBackup(CkptStoreError, ValueError):
    """The data file is not HDF5."""


class BackupBusy(CkptStoreError, BlockingIOError):
    """The data file is open for writing somewhere."""


class LedgerError(CkptStoreError, LookupError):
    """A ledger has no such name, or more than one object to choose from."""
