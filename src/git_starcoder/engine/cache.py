"""Stores results of pure functions between builds, in a file that may be deleted at any time.

The file is one SQLite database in the user's cache folder, shared by all repositories and by builds that run at the
same time. The key of an entry hashes the name of the function, its inputs, our code, and the libraries that affect
results, so no entry is ever out of date. A build never fails because of its cache: an entry with a wrong checksum
counts as missing, a damaged database is created anew, and a read-only one is only read.

Texts are stored only after their secrets were redacted.
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
from git_starcoder.parse.language import language_table
from git_starcoder.weight_rules import DAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.resources.abc import Traversable

DATABASE_NAME = "cache-2.sqlite"
"""The name of the database; its number is increased when the table changes."""
CREATE_TABLE = (
    "CREATE TABLE IF NOT EXISTS entries (place INTEGER PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL)"
)
"""The row number `place` is the first 64 bits of the key; the checksum covers the whole key."""
CHECKSUM_BYTES = 4
"""Size of the checksum of key and value before each value."""
PAGE_BYTES = 16_384
"""Page size of the database: most entries fit in one page."""
KEYS_PER_QUERY = 500
"""Keys that one SQL query looks up; SQLite limits the parameters of a query."""
LOCK_TIMEOUT_SECONDS = 30.0
"""Time to wait for another build that is writing."""
RESULT_LIBRARIES = (
    "ahocorasick-rs", "gigatoken", "model2vec", "msgspec", "numpy", "rapidfuzz", "rensa", "tokenizers", "tree-sitter",
)  # fmt: skip
"""Libraries that affect stored results and whose versions are in the key, besides the grammars of the languages."""

Entry = tuple[bytes, bytes]
"""A key and its value."""


@cache
def code_digest() -> bytes:
    """A hash of all code that results depend on: Python, this package, `RESULT_LIBRARIES` and the grammars.

    The grammars are those that the languages registry names. Their files count instead of a version: a grammar may be
    built from a checkout.
    """
    digest = blake2b(digest_size=16)
    for path, data in sorted(_code_files(files("git_starcoder"), "")):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    for grammar in sorted({language_table(key)["file"]["grammar"] for key in registry.names("languages")}):
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
    """Names and contents of the files of a grammar; the grammar is not loaded."""
    spec = find_spec(module)
    for folder in spec.submodule_search_locations or () if spec else ():
        yield from _code_files(Path(folder), module, (".py", *EXTENSION_SUFFIXES))


class SqliteCache:
    """The stored entries. Calls must come from one thread; another thread writes."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Open or create the cache in a folder.

        At the end, the entries that were not used for the longest time are deleted beyond `limit` bytes.
        """
        self.path = folder / DATABASE_NAME
        self.limit = limit
        self.hits = self.misses = 0
        self._today = int(time.time()) // DAY_SECONDS
        self._reused: list[int] = []
        self._damaged = False
        self._queue: SimpleQueue[list[Entry] | None] = SimpleQueue()
        self.problem = ""
        """Why nothing is stored, if the database cannot be opened."""
        self._reader = self._connect()
        self._thread = Thread(target=self._write, daemon=True)
        self._is_writing = False
        if self._reader is not None:
            try:
                self._thread.start()
                self._is_writing = True
            except RuntimeError as error:  # a limit of threads is reached
                self.problem = str(error)

    def key(self, *parts: str | bytes) -> bytes:
        """The key of the result of a function, named by the first part, for inputs, given by the other parts."""
        framed_parts = [code_digest()]
        for part in parts:
            data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
            framed_parts += (len(data).to_bytes(8, "little"), data)
        return blake2b(b"".join(framed_parts), digest_size=16).digest()

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The stored value of each key, None where there is none."""
        found: dict[bytes, bytes] = {}
        key_of_row = {_row_number(key): key for key in keys}
        row_numbers = sorted(key_of_row)  # in the order of the file
        for start in range(0, len(row_numbers), KEYS_PER_QUERY):
            if self._reader is None:
                break
            batch = row_numbers[start : start + KEYS_PER_QUERY]
            query = f"SELECT place, value, used FROM entries WHERE place IN ({','.join('?' * len(batch))})"  # noqa: S608
            try:
                rows: list[tuple[int, bytes, int]] = self._reader.execute(query, batch).fetchall()
            except sqlite3.DatabaseError as error:
                self._damaged = not isinstance(error, sqlite3.OperationalError)
                break
            for row_number, value, used in rows:
                key = key_of_row[row_number]
                if value[:CHECKSUM_BYTES] == _checksum(key, value[CHECKSUM_BYTES:]):
                    found[key] = value[CHECKSUM_BYTES:]
                    if used != self._today:
                        self._reused.append(row_number)
        values = [found.get(key) for key in keys]
        missing = values.count(None)
        self.misses += missing
        self.hits += len(values) - missing
        return values

    def put(self, entries: list[Entry]) -> None:
        """Store entries. The other thread writes them later."""
        if entries and self._is_writing:
            self._queue.put(entries)

    def close(self) -> None:
        """Wait until all entries are written, and close the database."""
        if self._is_writing:
            self._queue.put(None)
            self._thread.join()
        if self._reader is not None:
            self._reader.close()
        if self._damaged:
            _delete_database(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> sqlite3.Connection | None:
        """A connection to the database; a damaged database is deleted first. None if it cannot be opened."""
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
        """Write each message of the queue in one transaction until None comes; then delete what exceeds the limit."""
        connection = self._connect()
        while (entries := self._queue.get()) is not None:
            if connection is None:
                continue
            rows = [(_row_number(key), _checksum(key, value) + value, self._today) for key, value in entries]
            with suppress(sqlite3.Error):
                connection.execute("BEGIN IMMEDIATE")
                try:
                    connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)
                    connection.execute("COMMIT")
                except sqlite3.Error:  # the disk is full: stop writing
                    connection.execute("ROLLBACK")
                    connection = None
        if connection is not None:
            with suppress(sqlite3.Error):
                self._evict(connection)
            connection.close()

    def _evict(self, connection: sqlite3.Connection) -> None:
        """Mark the entries that were used today, and delete the oldest ones until the size is within the limit."""
        connection.executemany(
            "UPDATE entries SET used = ? WHERE place = ?", [(self._today, row_number) for row_number in self._reused]
        )
        pages, page_bytes, free_pages = (connection.execute(f"PRAGMA {name}").fetchone()[0]
                                         for name in ("page_count", "page_size", "freelist_count"))  # fmt: skip
        excess = (pages - free_pages) * page_bytes - self.limit
        if excess <= 0:
            return
        evicted: list[tuple[int]] = []
        for row_number, width in connection.execute("SELECT place, length(value) FROM entries ORDER BY used, place"):
            evicted.append((row_number,))
            excess -= width
            if excess <= 0:
                break
        connection.executemany("DELETE FROM entries WHERE place = ?", evicted)
        connection.executescript("PRAGMA incremental_vacuum")  # execute() would free only one page


def _delete_database(path: Path) -> None:
    """Delete the database and the files that SQLite writes beside it."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        (path.parent / name).unlink(missing_ok=True)


def _row_number(key: bytes) -> int:
    """The first 64 bits of a key as the number of its row."""
    return int.from_bytes(key[:8], signed=True)


def _checksum(key: bytes, value: bytes) -> bytes:
    return crc32(value, crc32(key)).to_bytes(CHECKSUM_BYTES)
