"""A repository that nobody trusts, read object by object.

Git runs in an empty repository of our own and only borrows the other's objects, so it never sees the configuration,
attributes, hooks and replacements there. Every object is hashed again after reading, because `git cat-file` does not.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from git_starcoder.errors import RepositoryError, RevisionError
from git_starcoder.git.command import Answer, environment, start
from git_starcoder.git.discover import Found, discover
from git_starcoder.git.history import DAY, LONGEST_PATH, LastChange, committed_at, day, last_changes
from git_starcoder.user_paths import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import BinaryIO

T = TypeVar("T")
MOST_ENTRIES = 1_000_000
"""A commit with more files and folders is refused: a dozen objects can spell out ten billion paths."""
MOST_SPELLED = 1 << 28
"""Bytes of all paths of a commit, likewise."""
DEEPEST = 256
LARGEST = 1 << 26
"""Bytes of the largest object that is ever held in memory."""
TREE_ENTRY = re.compile(rb"([0-7]{1,7}) ([^\0]*)\0")
KIND = 0o170000
"""The bits of a mode that say what an entry is."""
FILE = 0o100000
FOLDER = 0o040000
SYMLINK = 0o120000
SUBMODULE = 0o160000


class Fault(NamedTuple):
    """Why an object cannot be had."""

    reason: str
    """`missing`, `corrupt`, `too_large`; of a commit also `too_deep` for a folder and `long_path` for a file."""
    because: str = ""


class Entry(NamedTuple):
    """One file of a commit, or a folder that could not be opened. Where the path is too long, its beginning."""

    path: str
    mode: int
    blob: str
    size: int | None
    """Bytes, or None where the object cannot be had."""
    fault: Fault | None = None


class Repo:
    """A commit of a repository, and the objects it is made of."""

    def __init__(self, path: Path, found: Found) -> None:
        folder = found.folder
        self.path = path
        self.name = folder.parent.name if folder.name == ".git" else folder.name.removesuffix(".git")
        self.objects = folder / "objects"
        self.boundary = _ids(folder / "shallow", found.format)
        """Commits whose parents a shallow clone left out."""
        self.shallow = bool(self.boundary)
        self.notes: list[str] = []
        """What a user should know about how this repository was read."""
        self.partial = ""
        """Why the history that was walked is not all of it: it is known once `last_changes` was asked."""
        self.unsure_renames = False
        """Whether something is missing that tells whether files were renamed; likewise."""
        self._hash = found.format
        self._width = hashlib.new(found.format).digest_size
        own = _own_repository(found.format, self.boundary)
        weakref.finalize(self, shutil.rmtree, own, ignore_errors=True)
        self._entries: list[Entry] = []
        self._env = environment(GIT_DIR=str(own), GIT_OBJECT_DIRECTORY=str(self.objects))
        alternates = _small(self.objects / "info" / "alternates").decode("utf-8", "replace").split("\n")
        self.notes += [f"objects are also read from {place!r}" for place in alternates if place]
        if self.shallow:
            self.notes.append("the history is shallow: files that did not change since it begins have no last commit")
        self.commit, self._tree, self.committed_at = self._head(found.object)
        if self.committed_at > time.time() + DAY:
            self.notes.append(
                f"the date of the newest commit, {day(self.committed_at)}, lies in the future: "
                "ages count from it, so that all other files look old"
            )

    @classmethod
    def open(cls, path: str | Path, rev: str = "HEAD") -> Repo:
        """Open the repository that a path is or lies in, at a branch, tag or commit.

        Raises:
            RepositoryError: there is none, it cannot be read, or the revision names no commit.
        """
        return cls(Path(path), discover(Path(path), rev))

    def _head(self, name: str) -> tuple[str, str, int]:
        """Commit, tree and committer time of what a revision named; tags are followed."""
        for _ in range(10):
            [(_, kind, data)] = self._objects([name])
            if isinstance(data, Fault):
                break
            target = re.match(rb"(?:tree|object) ([0-9a-f]+)\n", data)
            if kind not in {"commit", "tag"} or not target:
                raise RepositoryError(f"the revision names a {kind}, not a commit", where="--rev")
            if kind == "commit":
                return name, target[1].decode(), committed_at(data)
            name = target[1].decode()
        raise RevisionError(f"commit {name} cannot be read", where=str(self.path), hint="`git fsck` says what is wrong")

    def git(self, *arguments: str, stdin: BinaryIO | None = None) -> AbstractContextManager[Answer]:
        """Start a git command that sees the objects and nothing else of the repository."""
        return start(*arguments, env=self._env, stdin=stdin)

    def entries(self) -> list[Entry]:
        """Every file of the commit, sorted by the bytes of its path, and every folder that could not be opened.

        Raises:
            RepositoryError: there are more than `MOST_ENTRIES`, or their paths are longer than `MOST_SPELLED`.
        """
        if not self._entries:
            self._entries = self._walk()
        return self._entries

    def _walk(self) -> list[Entry]:
        files: list[tuple[bytes, int, str]] = []
        unopened: list[Entry] = []
        level = [(b"", self._tree)]
        seen = depth = spelled = 0
        while level:
            trees = self._trees({tree for _, tree in level})
            below: list[tuple[bytes, str]] = []
            for prefix, tree in level:
                children = trees[tree]
                if depth > DEEPEST or len(prefix) > LONGEST_PATH:
                    children = Fault("too_deep", f"{depth} folders")
                if isinstance(children, Fault):
                    if not prefix:
                        raise RepositoryError(f"the folder of commit {self.commit} is {children.reason}")
                    unopened.append(Entry(_text(prefix[:LONGEST_PATH]), FOLDER, tree, None, children))
                    continue
                seen += len(children)
                spelled += sum(len(prefix) + len(name) for name, _, _ in children)
                if seen > MOST_ENTRIES or spelled > MOST_SPELLED:
                    what = f"the commit has more than {MOST_ENTRIES:,} files and folders"
                    if seen <= MOST_ENTRIES:
                        what = f"the paths of the commit have more than {MOST_SPELLED:,} bytes"
                    raise RepositoryError(what, where=str(self.path))
                for name, mode, oid in children:
                    if mode & KIND == FOLDER:
                        below.append((prefix + name + b"/", oid))
                    elif len(prefix) + len(name) > LONGEST_PATH:
                        fault = Fault("long_path", f"{len(prefix) + len(name)} bytes")
                        unopened.append(Entry(_text((prefix + name)[:LONGEST_PATH]), mode, oid, None, fault))
                    else:
                        files.append((prefix + name, mode, oid))
            level = below
            depth += 1
        sizes = self.sizes(oid for _, mode, oid in files if mode & KIND != SUBMODULE)
        made = [Entry(_text(path), mode, oid, sizes.get(oid)) for path, mode, oid in files]
        return sorted(made + unopened, key=lambda entry: os.fsencode(entry.path))

    def sizes(self, blobs: Iterable[str]) -> dict[str, int]:
        """The size in bytes of each blob that can be had, without reading any."""
        names = list(dict.fromkeys(blobs))
        answers = self._ask("--batch-check", names, _size)
        return {name: size for name, size in zip(names, answers, strict=True) if isinstance(size, int)}

    def read(self, blobs: Iterable[str]) -> Iterator[tuple[str, bytes | Fault]]:
        """Each blob in the order given. The caller asked for `sizes` before: what comes is held in memory."""
        for name, kind, data in self._objects(list(blobs)):
            if kind == "blob" or isinstance(data, Fault):
                yield name, data
            else:
                yield name, Fault("corrupt", f"is a {kind}")

    def commits(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | Fault]]:
        """Each commit object in the order given, as it is stored."""
        for name, kind, data in self._objects(list(names)):
            if kind == "commit" or isinstance(data, Fault):
                yield name, data
            else:
                yield name, Fault("corrupt", f"is a {kind}")

    def last_changes(self) -> dict[str, LastChange]:
        """For each path at the commit the last commit that changed it; see `git_starcoder.git.history`."""
        return last_changes(self)

    def why_unread(self, blob: str) -> Fault:
        """Why a blob has no size: it is not there, or what is there is damaged."""
        if (self.objects / blob[:2] / blob[2:]).exists():
            return Fault("corrupt", "the object's header cannot be read")
        return Fault("missing", "the object is not in the repository")

    def _trees(self, names: set[str]) -> dict[str, list[tuple[bytes, int, str]] | Fault]:
        found: dict[str, list[tuple[bytes, int, str]] | Fault] = {}
        for name, kind, data in self._objects(sorted(names)):
            if isinstance(data, Fault):
                found[name] = data
            elif kind != "tree":
                found[name] = Fault("corrupt", f"is a {kind}, not a folder")
            else:
                found[name] = _children(data, self._width)
        return found

    def _objects(self, names: Sequence[str]) -> Iterator[tuple[str, str, bytes | Fault]]:
        answers = self._ask("--batch", names, self._whole)
        for name, answer in zip(names, answers, strict=True):
            yield (name, "", answer) if isinstance(answer, Fault) else (name, *answer)

    def _ask(self, how: str, names: Sequence[str], parse: Callable[[Answer, str], T | Broken]) -> Iterator[T | Fault]:
        """Ask `git cat-file` about objects. Where it dies or lies, a fresh one goes on behind that object."""
        if not names:
            return
        with tempfile.TemporaryFile(dir=temporary_folder()) as questions:
            questions.writelines(f"{name}\n".encode() for name in names)
            questions.flush()
            done = 0
            while done < len(names):
                os.lseek(questions.fileno(), done * (2 * self._width + 1), os.SEEK_SET)
                with self.git("cat-file", how, "--buffer", stdin=questions) as answer:
                    while done < len(names):
                        result = parse(answer, names[done])
                        done += 1
                        if isinstance(result, Broken):
                            yield result.fault
                            break
                        yield result

    def _whole(self, answer: Answer, name: str) -> tuple[str, bytes] | Fault | Broken:
        """One object of `cat-file --batch`, hashed again."""
        match (answer.line() or b"").decode("ascii", "replace").split(" "):
            case [said, "missing"] if said == name:
                return self.why_unread(name)
            case [said, kind, digits] if said == name and digits.isdecimal():
                size = int(digits)
            case _:
                return Broken(Fault("corrupt", "git cannot read it"))
        if size > LARGEST:
            return Broken(Fault("too_large", f"{size} bytes"))
        data = answer.take(size)
        if len(data) < size or answer.take(1) != b"\n":
            return Broken(Fault("corrupt", "it is cut off, or its size is a lie"))
        digest = hashlib.new(self._hash, f"{kind} {size}\0".encode())
        digest.update(data)
        if digest.hexdigest() != name:
            return Broken(Fault("corrupt", "its content does not have its name"))
        return kind, data


class Broken(NamedTuple):
    """An answer after which the process cannot be believed any more."""

    fault: Fault


def _size(answer: Answer, name: str) -> int | Fault | Broken:
    """One answer of `cat-file --batch-check`."""
    match (answer.line() or b"").decode("ascii", "replace").split(" "):
        case [said, "blob", digits] if said == name and digits.isdecimal():
            return int(digits)
        case [said, *_] if said == name:
            return Fault("missing")
        case _:
            return Broken(Fault("corrupt"))


def _children(data: bytes, width: int) -> list[tuple[bytes, int, str]] | Fault:
    """Name, mode and object of each entry of a tree object."""
    children: list[tuple[bytes, int, str]] = []
    at = 0
    while match := TREE_ENTRY.match(data, at):
        at = match.end() + width
        children.append((match[2], int(match[1], 8), data[match.end() : at].hex()))
    return children if at == len(data) else Fault("corrupt", "the folder's list is malformed")


def _own_repository(kind: str, boundary: frozenset[str]) -> Path:
    """An empty bare repository in a temporary folder."""
    place = temporary_folder()
    try:
        own = Path(tempfile.mkdtemp(prefix="git-starcoder-", dir=place))
        for folder in ("objects", "refs"):
            (own / folder).mkdir()
        (own / "HEAD").write_text("ref: refs/heads/none\n")
        extension = "" if kind == "sha1" else f"[extensions]\nobjectFormat = {kind}\n"
        version = 0 if kind == "sha1" else 1
        (own / "config").write_text(
            f"[core]\nrepositoryFormatVersion = {version}\nbare = true\ncommitGraph = false\n{extension}"
        )
        if boundary:
            (own / "shallow").write_text("".join(f"{name}\n" for name in sorted(boundary)))
    except OSError as error:
        raise RepositoryError(f"no temporary folder can be made: {error.strerror}", where=place) from error
    return own


def _small(path: Path) -> bytes:
    """A small file, or nothing where there is none."""
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST)
    except OSError as error:
        raise RepositoryError(f"a file cannot be read: {error.strerror}", where=str(path)) from error


def _ids(path: Path, kind: str) -> frozenset[str]:
    """The object ids that a file lists, one per line; anything else in it is ignored."""
    width = 2 * hashlib.new(kind).digest_size
    return frozenset(re.findall(rf"^[0-9a-f]{{{width}}}$", _small(path).decode("ascii", "replace"), re.MULTILINE))


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
