"""What is known to be equal on both sides: remembered on this machine, so that the next run need not look again.

One SQLite file for each pair of places, the same in both directions. It holds keys, sizes and versions, never a
credential. An entry counts only while both objects still have the version that was compared. Losing the file costs
comparing again, nothing else.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from ckptstore.cachefile import cache_folder
from ckptstore.objects import ObjectInfo
from ckptstore.store import Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS equal (
    key TEXT PRIMARY KEY,
    source_bytes INTEGER NOT NULL, source_version TEXT NOT NULL,
    target_bytes INTEGER NOT NULL, target_version TEXT NOT NULL
) WITHOUT ROWID
"""
_WAIT_S = 5.0

_Sides = tuple[int, str, int, str]


class Journal:
    """Remembers which objects were found equal. Safe to share between threads, and between processes.

    Attributes:
        trouble: why nothing is remembered, "" as long as all is well. It is no error: a mirror works without.
    """

    def __init__(self, source: Store, target: Store) -> None:
        self.trouble = ""
        self._lock = threading.Lock()
        first, second = sorted((source.place, target.place))
        self._swapped = source.place != first
        self._connection = self._opened(f"{first}\n{second}")

    def equal(self, prefix: str) -> dict[str, _Sides]:
        """Return (size, version) of source and target for every key under a prefix."""
        asked = "SELECT * FROM equal WHERE key >= ? AND key < ?"
        rows = self._execute(asked, (prefix, prefix + "\U0010ffff"))
        return {
            key: self._turned((one, its_version, other, that_version))
            for key, one, its_version, other, that_version in rows
        }

    def remember(self, source: ObjectInfo, target: ObjectInfo) -> None:
        """Keep that two objects are equal."""
        sides = self._turned(sides_of(source, target))
        self._execute("INSERT OR REPLACE INTO equal VALUES (?, ?, ?, ?, ?)", (source.key, *sides))

    def forget(self, key: str) -> None:
        """Drop what is known of a key."""
        self._execute("DELETE FROM equal WHERE key = ?", (key,))

    def close(self) -> None:
        """Close the file."""
        with self._lock, suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self, pair: str) -> sqlite3.Connection | None:
        folder = cache_folder()
        if folder is None:
            self.trouble = "no home folder to keep a journal in; set CKPTSTORE_CACHE"
            return None
        path = folder / "mirror" / f"{hashlib.sha256(pair.encode()).hexdigest()[:32]}.sqlite"
        try:
            return _connected(path)
        except (sqlite3.OperationalError, OSError) as error:  # locked, no right to write, no space
            self._give_up(error)
            return None
        except sqlite3.DatabaseError:
            return self._renewed(path)

    def _renewed(self, path: Path) -> sqlite3.Connection | None:
        """Begin anew in place of a damaged file."""
        try:
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                path.with_name(name).unlink(missing_ok=True)
            return _connected(path)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            return None

    def _execute(self, statement: str, values: tuple[object, ...]) -> list[tuple[str, int, str, int, str]]:
        with self._lock:
            if self._connection is None:
                return []
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                self._give_up(error)
                self._connection = None
                return []

    def _give_up(self, error: Exception) -> None:
        self.trouble = f"no journal is kept, equal objects are compared each time ({error})"

    def _turned(self, sides: _Sides) -> _Sides:
        return (*sides[2:], *sides[:2]) if self._swapped else sides


def sides_of(source: ObjectInfo, target: ObjectInfo) -> _Sides:
    """Return what a journal keeps of two objects."""
    return source.size_bytes, source.version, target.size_bytes, target.version


def _connected(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")  # a machine that goes down loses entries, not objects
        connection.execute(_SCHEMA)
        connection.execute("SELECT * FROM equal LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
