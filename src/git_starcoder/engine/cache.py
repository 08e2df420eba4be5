"""What was worked out before, by a hash of all that it came from: a file that may be deleted at any time.

One SQLite database in the user's cache folder, shared by all repositories and by builds that run at once. An entry is
the answer of a pure function; its key hashes the function's name, its inputs, and the code of this package and of the
libraries that matter, so no entry is ever out of date. An entry whose checksum is wrong counts as missing, a database
that is damaged is made anew, and one that cannot be written is not written: a build never fails for its cache.

Texts get here after secrets were taken out of them.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Self
from zlib import crc32

from git_starcoder import registry
from git_starcoder.parse.language import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.resources.abc import Traversable

DATABASE_NAME = "cache-2.sqlite"
"""The number grows when the table changes."""
CREATE_TABLE = (
    "CREATE TABLE IF NOT EXISTS entries (place INTEGER PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL)"
)
"""An entry's place is 64 bits of its key; the checksum knows all of it."""
CHECKSUM_BYTES = 4
"""Bytes of checksum in front of each value, which covers the key, too."""
PAGE_BYTES = 16_384
"""Bytes of a page of the database: most entries fit in one."""
KEYS_PER_QUERY = 500
"""Keys asked for in one question."""
DAY = 86_400
LOCK_TIMEOUT_SECONDS = 30.0
"""Seconds to wait for another build that writes."""
RESULT_LIBRARIES = (
    "ahocorasick-rs", "gigatoken", "model2vec", "msgspec", "numpy", "rapidfuzz", "rensa", "tokenizers", "tree-sitter",
)  # fmt: skip
"""Whose answers are kept, besides the grammars of the languages shelf."""

Entry = tuple[bytes, bytes]
"""Key and value."""


@cache
def code_digest() -> bytes:
    """A hash of what makes the answers: Python, the code of this package, `LIBRARIES`, and the grammars.

    Of a grammar its files count, not its version: one may be built from a checkout.
    """
    digest = blake2b(digest_size=16)
    for path, data in sorted(_code_files(files("git_starcoder"), "")):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    for grammar in sorted({table(key)["file"]["grammar"] for key in registry.names("languages")}):
        for path, data in sorted(_grammar_files(grammar)):
            digest.update(f"{path}\0{len(data)}\0".encode() + data)
    digest.update(f"Python {sys.version}\0".encode())
    for library in RESULT_LIBRARIES:
        with suppress(PackageNotFoundError):
            digest.update(f"{library} {version(library)}\0".encode())
    return digest.digest()


def _code_files(
    folder: Traversable, prefix: str, suffixes: tuple[str, ...] = (".py", ".toml", ".yml")
) -> Iterable[tuple[str, bytes]]:
    for entry in folder.iterdir():
        name = f"{prefix}/{entry.name}"
        if entry.is_dir():
            yield from _code_files(entry, name, suffixes)
        elif entry.name.endswith(suffixes):
            yield name, entry.read_bytes()


def _grammar_files(module: str) -> Iterable[tuple[str, bytes]]:
    """The files of a grammar, which is not loaded for this."""
    spec = find_spec(module)
    for folder in spec.submodule_search_locations or () if spec else ():
        yield from _code_files(Path(folder), module, (".py", *EXTENSION_SUFFIXES))


class SqliteCache:
    """Entries by key. Calls come from one thread; entries are written by another."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Open or make the cache in `folder`; beyond `limit` bytes, what was not used for longest goes at the end."""
        self.path = folder / DATABASE_NAME
        self.limit = limit
        self.hits = self.misses = 0
        self._today = int(time.time()) // DAY
        self._reused: list[int] = []
        self._damaged = False
        self._waiting: SimpleQueue[list[Entry] | None] = SimpleQueue()
        self.problem = ""
        """Why nothing is kept, where the database cannot be opened."""
        self._reading = self._connect()
        self._thread = Thread(target=self._write, daemon=True)
        self._writing = self._start_writer()

    def key(self, *parts: str | bytes) -> bytes:
        """The key of the answer that a function, named by the first part, gives for inputs, which the others name."""
        pieces = [code_digest()]
        for part in parts:
            data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
            pieces += (len(data).to_bytes(8, "little"), data)
        return blake2b(b"".join(pieces), digest_size=16).digest()

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, None where there is none."""
        found: dict[bytes, bytes] = {}
        asked = {_row_number(key): key for key in keys}
        places = sorted(asked)  # as they lie in the file
        for first in range(0, len(places), KEYS_PER_QUERY):
            if self._reading is None:
                break
            some = places[first : first + KEYS_PER_QUERY]
            question = f"SELECT place, value, used FROM entries WHERE place IN ({','.join('?' * len(some))})"  # noqa: S608
            try:
                answers: list[tuple[int, bytes, int]] = self._reading.execute(question, some).fetchall()
            except sqlite3.DatabaseError as error:
                self._damaged = not isinstance(error, sqlite3.OperationalError)
                break
            for place, value, used in answers:
                key = asked[place]
                if value[:CHECKSUM_BYTES] == _checksum(key, value[CHECKSUM_BYTES:]):
                    found[key] = value[CHECKSUM_BYTES:]
                    if used != self._today:
                        self._reused.append(place)
        values = [found.get(key) for key in keys]
        missing = values.count(None)
        self.misses += missing
        self.hits += len(values) - missing
        return values

    def _start_writer(self) -> bool:
        """Whether there is a thread that writes."""
        if self._reading is None:
            return False
        try:
            self._thread.start()
        except RuntimeError as error:  # a limit of threads is reached
            self.problem = str(error)
            return False
        return True

    def put(self, entries: list[Entry]) -> None:
        """Keep entries. They are on their way when this returns."""
        if entries and self._writing:
            self._waiting.put(entries)

    def close(self) -> None:
        """Write what is on its way."""
        if self._writing:
            self._waiting.put(None)
            self._thread.join()
        if self._reading is not None:
            self._reading.close()
        if self._damaged:
            _delete_database(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> sqlite3.Connection | None:
        """A connection to the database; a damaged one is thrown away first. None where there can be none."""
        for _ in range(2):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                connection = sqlite3.connect(
                    self.path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
                )
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(CREATE_TABLE)
            except (sqlite3.OperationalError, OSError) as error:  # locked, read-only, full
                self.problem = f"'{self.path.parent}': {getattr(error, 'strerror', None) or error}".lower()
                return None
            except sqlite3.DatabaseError:
                _delete_database(self.path)
            else:
                return connection
        return None

    def _write(self) -> None:
        """Write entries in one transaction per message, until None comes; then forget what is too much."""
        connection = self._connect()
        while (entries := self._waiting.get()) is not None:
            if connection is None:
                continue
            rows = [(_row_number(key), _checksum(key, value) + value, self._today) for key, value in entries]
            with suppress(sqlite3.Error):
                connection.execute("BEGIN IMMEDIATE")
                try:
                    connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)
                    connection.execute("COMMIT")
                except sqlite3.Error:  # full: go on without
                    connection.execute("ROLLBACK")
                    connection = None
        if connection is not None:
            with suppress(sqlite3.Error):
                self._evict(connection)
            connection.close()

    def _evict(self, connection: sqlite3.Connection) -> None:
        """Note what was used today; delete what was not used for longest until the rest is within the limit."""
        connection.executemany(
            "UPDATE entries SET used = ? WHERE place = ?", [(self._today, place) for place in self._reused]
        )
        size = _used_bytes(connection)
        if size <= self.limit:
            return
        spare = size - self.limit
        doomed: list[tuple[int]] = []
        for place, width in connection.execute("SELECT place, length(value) FROM entries ORDER BY used, place"):
            doomed.append((place,))
            spare -= width
            if spare <= 0:
                break
        connection.executemany("DELETE FROM entries WHERE place = ?", doomed)
        connection.executescript("PRAGMA incremental_vacuum")  # execute() would free one page


def _delete_database(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        (path.parent / name).unlink(missing_ok=True)


def _used_bytes(connection: sqlite3.Connection) -> int:
    count, size, free = (connection.execute(f"PRAGMA {what}").fetchone()[0]
                         for what in ("page_count", "page_size", "freelist_count"))  # fmt: skip
    return (count - free) * size


def _row_number(key: bytes) -> int:
    return int.from_bytes(key[:8], signed=True)


def _checksum(key: bytes, value: bytes) -> bytes:
    return crc32(value, crc32(key)).to_bytes(CHECKSUM_BYTES)
