"""Keeps what a model knows of a repository equal to the files on disk, and to the unsaved texts of an editor.

Nothing is trained. The memory and the context are indexes of documents, and an index without some documents, and with
others, is made from it in milliseconds. The file that is being edited is left out of the memory: its saved text would
suggest what already stands after the cursor. The memories of the files that were edited last are kept, so that two
editors on one server do not take each other's away.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, RLock, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.dataset.held_out import Document
from git_starcoder.errors import RepositoryError
from git_starcoder.memory.contexts import document_digest
from git_starcoder.serve.disk import WorkTree, clean_source
from git_starcoder.serve.locate import find_document
from git_starcoder.text.secrets import secret_file_reason

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Mapping

    from git_starcoder.memory.repository_memory import RepositoryMemory
    from git_starcoder.model.context import ContextComposer
    from git_starcoder.serve.disk import FileVersion
    from git_starcoder.text.tokenizer import Tokenizer

    Tokens = Any

QUIET_MILLISECONDS = 20
"""Changes are read when nothing has changed for this long: editors write a file in several steps."""
LONGEST_WAIT_MILLISECONDS = 100
"""Changes are read after this time at the latest."""
LOOK_MILLISECONDS = 200
"""How often the thread looks whether it is to end."""
KEPT_MEMORIES, KEPT_BYTES = 3, 96 << 20
"""For how many edited files a memory is kept, and the bytes that all of them may have. Each has those of the whole
index: 10 for a token. The newest is always kept."""
EXAMPLE_FILES, EXAMPLE_TOKENS, MIN_EXAMPLE_WORDS = 100, 2_000, 4
"""The files, and the tokens of each, in which an example is searched, and the words that it has at least."""
GIT_FILES = frozenset({".git/index", ".git/info/exclude", ".git/HEAD"})
"""Files of git that say which files there are."""


class Knowledge(NamedTuple):
    """What the engine may use for a completion."""

    memory: RepositoryMemory | None
    composer: ContextComposer | None


@dataclass(frozen=True, slots=True, eq=False)
class KnownText:
    """A text of the repository that may be known."""

    path: str
    tokens: Tokens
    """Shape (tokens,), with the end-of-text token."""
    digest: bytes
    """By which the memory tells documents apart."""


class _Remembered(NamedTuple):
    """A memory and what it holds."""

    memory: RepositoryMemory
    texts: dict[str, KnownText] | None
    """The texts that it holds, by path; None if it is the memory that is stored with the model."""


class Follower:
    """The texts of a repository, and the indexes of them. It can be used from several threads."""

    def __init__(
        self, tokenizer: Tokenizer, memory: RepositoryMemory | None, composer: ContextComposer | None,
        folder: Path | None = None,
    ) -> None:  # fmt: skip
        """Begin with what was stored with the model. Without `folder`, more is known only by `learn` or `read_once`.

        Raises:
            RepositoryError: The folder is in no work tree.
        """
        self._is_of_use = memory is not None or composer is not None
        self.tree = WorkTree(folder) if folder is not None and self._is_of_use else None
        self.problem = ""
        """Why the files on disk are not followed any more; empty while they are."""
        self.updates = 0
        """How often the memory has changed."""
        self._tokenizer = tokenizer
        self._texts: dict[str, KnownText] = {}
        self._versions: dict[str, FileVersion] = {}
        self._open: dict[str, tuple[str, KnownText | None]] = {}
        self._edited = ""
        self._has_learned = False
        """Whether `_texts` count, and not what was stored with the model."""
        self._memories: dict[str, _Remembered] = {} if memory is None else {"": _Remembered(memory, None)}
        """The memories that are kept, each by the path of the file that it leaves out. The newest is last."""
        self._composer = composer
        self._composed: dict[str, KnownText] | None = None
        """What the composer shows; None as long as it is the stored one."""
        self._lock, self._reading = RLock(), Lock()
        self._ready, self._stop = Event(), Event()
        self._thread: Thread | None = None
        if self.tree is None:
            self._ready.set()
        else:
            self._thread = Thread(target=self._follow, args=(self.tree,), name="follow", daemon=True)
            self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether the files on disk were read once. Until then, the stored memory is used."""
        return self._ready.is_set()

    @property
    def file_count(self) -> int:
        """The number of files that are known from the disk."""
        return len(self._texts)

    def example(self) -> str:
        """The first half of the line that occurs most often in some files, for people who try a completion."""
        with self._lock:
            known = list(self._texts.values())
        texts = [text.tokens for text in sorted(known, key=lambda each: each.path)[:EXAMPLE_FILES]]
        lines = Counter(
            words
            for tokens in texts
            for line in self._tokenizer.decode(tokens[:EXAMPLE_TOKENS]).decode("utf-8", "replace").splitlines()
            if len(words := tuple(line.split())) >= MIN_EXAMPLE_WORDS and words[0][0].isalpha()
        )
        words, count = max(lines.items(), key=lambda item: (item[1], item[0]), default=((), 0))
        return " ".join(words[: (len(words) + 1) // 2 + 1]) + " " if count > 1 else ""

    def wait(self, seconds: float) -> bool:
        """Wait until the files on disk were read once; return whether they were."""
        return self._ready.wait(seconds)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def read_once(self, tree: WorkTree) -> None:
        """Read the files of a work tree as they are now, if they are of use, and do not follow them.

        Raises:
            RepositoryError: Git cannot list the files.
        """
        if self._is_of_use:
            self._read_changes(tree, None)

    def read_files(self, paths: Collection[str]) -> None:
        """Read the files at some paths, of which somebody else has seen that they change; needed if `problem` is set.

        Raises:
            RepositoryError: Git cannot list the files.
        """
        if self.tree is not None and self._ready.is_set():  # until then, all files are just being read
            self._read_changes(self.tree, paths)

    def learn(self, texts: Mapping[str, bytes | None]) -> None:
        """Learn the texts of files by their paths, None for those that are gone. They count as those on disk do.

        The first call forgets what was stored with the model. The texts must be UTF-8 as a build stores it.
        """
        documents = self._tokenize({path: text for path, text in texts.items() if text is not None})
        with self._lock:
            before = {path: known for path in texts if (known := self._texts.pop(path, None))}
            for path, document in documents.items():  # a file that was only touched changes no index
                known = before.get(path)
                self._texts[path] = known if known and known.digest == document.digest else document
            self._has_learned = True
            self._update_indexes()

    def knowledge(self, path: str, open_texts: Mapping[str, str]) -> Knowledge:
        """Return what may be used for a completion in the file at `path`, while these texts are open."""
        with self._lock:
            if self._has_learned:
                self._edited = path
                self._open = {other: self._read_open(other, text) for other, text in open_texts.items()}
                self._update_indexes()
            return Knowledge(self._newest_memory, self._composer)

    def keeps(self, memory: RepositoryMemory) -> bool:
        """Whether a memory is still kept."""
        with self._lock:
            return any(kept.memory is memory for kept in self._memories.values())

    @property
    def _newest_memory(self) -> RepositoryMemory | None:
        return next(reversed(self._memories.values())).memory if self._memories else None

    def find_path(self, before: Tokens, after: Tokens) -> str:
        """Find the file that these tokens before and after a cursor are from; empty if none has most of them."""
        with self._lock:
            if not self._memories or not self._has_learned:
                return ""
            left_out, (memory, texts) = next(reversed(self._memories.items()))
            paths = {text.digest: path for path, text in (texts or {}).items()}
            return find_document(memory.index, paths, self._texts.get(left_out), before, after)

    def _read_open(self, path: str, text: str) -> tuple[str, KnownText | None]:
        """Return an open text with its document; None for what must not be known."""
        known = self._open.get(path)
        if known is not None and known[0] == text:
            return known
        is_ignored = path not in self._texts and self.tree is not None and self.tree.ignores(path)
        is_allowed = path in self._texts or not (secret_file_reason(path) or is_ignored)
        cleaned = clean_source(path, text.encode("utf-8", "replace")) if is_allowed else None
        if cleaned is None:
            return text, None
        document = self._tokenize({path: cleaned})[path]
        saved = self._texts.get(path)
        return text, saved if saved is not None and saved.digest == document.digest else document

    def _tokenize(self, texts: Mapping[str, bytes]) -> dict[str, KnownText]:
        tokens, offsets = self._tokenizer.encode(list(texts.values()))
        found: dict[str, KnownText] = {}
        for path, part in zip(texts, np.split(tokens, offsets[1:-1]), strict=True) if texts else ():
            whole = np.append(part, self._tokenizer.end_id).astype(self._tokenizer.dtype)
            found[path] = KnownText(path, whole, document_digest(whole))
        return found

    def _update_indexes(self) -> None:
        """Bring the composer, and the memory without the edited file, up to date with the texts, if they are not."""
        wanted = self._texts | {path: text for path, (_, text) in self._open.items() if text is not None}
        composer = self._composer
        if composer is not None and wanted != self._composed:
            before = {} if self._composed is None else self._composed
            gone = {path for path, text in before.items() if wanted.get(path) is not text}
            if self._composed is None:
                gone = {*composer.paths}
            new = [text for path, text in wanted.items() if before.get(path) is not text]
            documents = [Document(text.path, "", "", "", 0, text.tokens) for text in new]
            self._composer, self._composed = composer.replace_files(gone, documents), wanted
        if self._memories:
            self._update_memory({path: text for path, text in wanted.items() if path != self._edited})

    def _update_memory(self, wanted: dict[str, KnownText]) -> None:
        """Make the newest memory the one that holds these texts, all but the edited file."""
        memory, texts = self._memories.pop(self._edited, None) or next(reversed(self._memories.values()))
        if texts != wanted:
            documents, digests = [text.tokens for text in wanted.values()], [text.digest for text in wanted.values()]
            memory = memory.update(documents, "repository", digests)
            self.updates += 1
        # The stored memory is of no use any more.
        self._memories = {path: kept for path, kept in self._memories.items() if kept.texts is not None}
        room = max(1, min(KEPT_MEMORIES, KEPT_BYTES // max(1, memory.index.byte_count)))
        while len(self._memories) >= room:
            del self._memories[next(iter(self._memories))]
        self._memories[self._edited] = _Remembered(memory, wanted)

    def _follow(self, tree: WorkTree) -> None:
        """Read the files on disk, and then what changes of them, until the end."""
        try:
            self._read_changes(tree, None)
            self._ready.set()
            while not self._stop.is_set():
                if (root_id := _folder_id(tree.root)) is not None:
                    with suppress(FileNotFoundError), _undecodable_names():  # it was just removed
                        self._watch(tree, root_id)
                self._stop.wait(LOOK_MILLISECONDS / 1000)  # somebody may clone it again
        except Exception as error:  # noqa: BLE001 - it ends the thread, and must not be lost
            self.problem = f"{type(error).__name__}: {error}"
            sys.stderr.write(f"error: the files on disk are not followed any more: {self.problem}\n")
            self._ready.set()

    def _watch(self, tree: WorkTree, root_id: tuple[int, int]) -> None:
        """Read all files, and then what changes of them, until the end, or until they must be watched anew.

        That is when another folder is at their place, or a link to a folder has changed. The watcher follows such
        links, and watches a folder under one name only: without the link it would not see that folder any more.
        """
        from watchfiles import watch

        root = str(tree.root)
        links: set[str] = set()
        is_first = True
        for changes in watch(
            root, watch_filter=None, step=QUIET_MILLISECONDS, debounce=LONGEST_WAIT_MILLISECONDS,
            rust_timeout=LOOK_MILLISECONDS, yield_on_timeout=True, stop_event=self._stop,
            raise_interrupt=False, ignore_permission_denied=True,
        ):  # fmt: skip
            if _folder_id(tree.root) != root_id:
                return
            names = {name for name in _real_names(name for _, name in changes) if name.startswith(f"{root}/")}
            within = tuple(f"{name}/" for name in names if not os.path.lexists(name))
            if any(link in names or link.startswith(within) for link in links):
                return
            links |= _links_to_folders({root} if is_first else names)
            paths = {name[len(root) + 1 :] for _, name in changes}  # `.git` may be a link to a folder elsewhere
            is_of_all = is_first or not paths.isdisjoint(GIT_FILES) or any(p.endswith(".gitignore") for p in paths)
            paths = {path for name in names if not (path := name[len(root) + 1 :]).startswith(".git/")}
            is_first = False
            if is_of_all or paths:
                with suppress(RepositoryError):  # the index is being replaced, which is a change of its own
                    self._read_changes(tree, None if is_of_all else paths)

    def _read_changes(self, tree: WorkTree, paths: Collection[str] | None) -> None:
        """Read the files that have changed: all, or those that are, or are in, some paths."""
        with self._reading:
            self._read_disk(tree, paths)

    def _read_disk(self, tree: WorkTree, paths: Collection[str] | None) -> None:
        listed = tree.list_files(paths or ())
        versions = {path: version for path in listed if (version := tree.version(path))}
        if paths is None:
            gone = self._versions.keys() - versions.keys()
        else:
            within = tuple(f"{path}/" for path in paths)
            inside = {path for path in self._versions if path in paths or path.startswith(within)}
            gone = inside - versions.keys()
        changed = [path for path, version in versions.items() if self._versions.get(path) != version]
        if gone or changed or not self._has_learned:
            for path in gone:
                del self._versions[path]
            self._versions.update((path, versions[path]) for path in changed)
            self.learn({**dict.fromkeys(gone), **{path: tree.read_text(path) for path in changed}})


@contextmanager
def _undecodable_names() -> Generator[None]:
    """Go on after the error by which watchfiles ends at a name that is not UTF-8. The next watch reads all files."""
    try:
        yield
    except RuntimeError as error:
        if "Unable to decode" not in str(error):
            raise


def _real_names(names: Iterable[str]) -> set[str]:
    """The absolute names of files and folders, without symbolic links to the folders that they are in."""
    parts = [os.path.split(name) for name in names]
    real = {folder: os.path.realpath(folder) for folder in {folder for folder, _ in parts}}
    return {f"{real[folder]}/{name}" for folder, name in parts}


def _links_to_folders(names: Iterable[str]) -> set[str]:
    """The symbolic links to folders among files and folders, and among all that is in these folders."""
    found: set[str] = set()
    for name in names:
        if Path(name).is_symlink():
            found.update([name] if Path(name).is_dir() else ())
            continue
        for folder, subfolders, _ in os.walk(name):
            found.update(link for each in subfolders if Path(link := f"{folder}/{each}").is_symlink())
    return found


def _folder_id(folder: Path) -> tuple[int, int] | None:
    """The device and inode of a folder; None if there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
