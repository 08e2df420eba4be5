"""Reads an untrusted repository object by object.

Git runs in an empty repository of our own, which borrows only the objects of the other one. So it never sees the
configuration, attributes, hooks and replacements there. Every object is hashed again after reading, because
`git cat-file` does not do that.

Only `find_repository` lets git see the repository's own configuration. It runs nothing but `rev-parse` and similar
commands, which were measured to execute no code whatever the configuration says; `SAFE_OPTIONS` disables the rest.
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
from git_starcoder.git import history
from git_starcoder.git.command import GitOutput, git_environment, run_git, start_git
from git_starcoder.git.history import MAX_PATH_BYTES, LastChange, decode_path, encode_path
from git_starcoder.user_paths import temporary_folder
from git_starcoder.weight_rules import DAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import BinaryIO

T = TypeVar("T")
SAFE_OPTIONS = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.commitGraph=false"),
    *("-c", "safe.directory=*", "-c", "safe.bareRepository=all"),  # reading another user's repository runs nothing
    *("-c", "advice.graftFileDeprecated=false"),
)
OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
REMOTE_URL = re.compile(r"(?:\w[\w+.-]*://[^/]+/|[^/:]+:(?!//))(?:.*/)?([\w.-]{1,100}?)(?:\.git)?/*", re.ASCII)
"""A URL with a scheme, or `host:path`; the group is the last part of the path."""
UNSHALLOW = "`git fetch --unshallow` completes a shallow clone"
"""A hint for when an old commit is missing."""
UNNAMED = "repository"
"""The name of a repository whose name is not known."""
MAX_REVISION_CHARACTERS = 4096
"""A longer text is not a revision: git takes no argument of any length."""
MAX_TREE_ENTRIES = 1_000_000
"""A commit with more files and folders is refused: a dozen objects can describe ten billion paths."""
MAX_TOTAL_PATH_BYTES = 1 << 28
"""A commit whose paths have more bytes together is refused, for the same reason."""
MAX_FOLDER_DEPTH = 256
"""Folders inside one another; deeper ones are not opened."""
MAX_OBJECT_BYTES = 1 << 26
"""Larger objects are never read into memory."""
TREE_ENTRY_PATTERN = re.compile(rb"([0-7]{1,7}) ([^\0]*)\0")
MODE_TYPE_MASK = 0o170000
"""The bits of a mode that contain the type of an entry."""
FILE_MODE = 0o100000
FOLDER_MODE = 0o040000
SYMLINK_MODE = 0o120000
SUBMODULE_MODE = 0o160000


class Unreadable(NamedTuple):
    """Why an object cannot be read."""

    reason: str
    """`missing`, `corrupt` or `too_large`; in a commit also `too_deep` for a folder and `long_path` for a file."""
    detail: str = ""


class UntrustedOutput(Unreadable):
    """Why an object cannot be read, where nothing that the process prints afterwards can be trusted."""

    __slots__ = ()


class TreeEntry(NamedTuple):
    """One file of a commit, or a folder that could not be opened."""

    path: str
    """If it is too long, its first `MAX_PATH_BYTES` bytes."""
    mode: int
    blob: str
    size: int | None
    """Bytes, or None if the object cannot be read."""
    unreadable: Unreadable | None = None


class RepositoryLocation(NamedTuple):
    """Where a repository is, and the object that a revision names in it."""

    git_folder: Path
    """The folder that contains `objects`; for a linked work tree that of the main one."""
    object_format: str
    """`sha1` or `sha256`."""
    object_id: str
    """The full id of a commit, or of a tag of one."""


def find_repository(path: Path, revision: str) -> RepositoryLocation:
    """Find the repository that contains `path`, as git itself does.

    Raises:
        RepositoryError: There is no such folder, no repository, or git cannot read it.
        RevisionError: There are no commits, or the revision names nothing.
    """
    try:
        problem = "" if path.is_dir() else "is not a folder" if path.exists() else "does not exist"
    except OSError as error:
        problem = f"cannot be opened: {error.strerror}"
    if problem:
        raise RepositoryError(f"'{path}' {problem}", hint="give the path of a Git repository")
    if revision.startswith("-") or "\0" in revision or not 0 < len(revision) <= MAX_REVISION_CHARACTERS:
        shown = repr(revision if len(revision) <= MAX_REVISION_CHARACTERS else f"{revision[:40]}…")
        raise RepositoryError(f"{shown} is not a revision", where="--rev", hint="give a branch, tag or commit")
    folders = ("--show-object-format", "--path-format=absolute", "--git-common-dir")
    code, output, message = _run_git_in(path, "rev-parse", *folders)
    if code and "not a git repository" in message:
        hint = "give the path of a repository, or create one with `git init`"
        raise RepositoryError(f"'{path}' is not a Git repository", hint=hint)
    if code:
        message = message or f"it ended with {code}"
        raise RepositoryError(f"git cannot read '{path}': {message}", hint="run `git status` there for details")
    object_format, _, git_folder = output.removesuffix("\n").partition("\n")
    code, output, _ = _run_git_in(path, "rev-parse", "--verify", "--quiet", "--end-of-options", revision)
    object_id = output.strip()
    if code or not OBJECT_ID.fullmatch(object_id):
        raise _revision_error(revision, path)
    return RepositoryLocation(Path(git_folder), object_format, object_id)


def _run_git_in(path: Path, *arguments: str) -> tuple[int, str, str]:
    env = git_environment(GIT_GRAFT_FILE=os.devnull)
    return run_git("-C", str(path.absolute()), *SAFE_OPTIONS, *arguments, env=env)


def _revision_error(revision: str, path: Path) -> RevisionError:
    _, branches, _ = _run_git_in(path, "for-each-ref", "--format=%(refname:short)", "--count=5")
    if not branches and revision == "HEAD":
        return RevisionError(f"'{path}' has no commits yet", hint="commit something first")
    hint = f"there is {', '.join(branches.split())}" if branches else "the repository has no commits yet"
    if revision == "HEAD":
        _, head, _ = _run_git_in(path, "symbolic-ref", "--quiet", "--short", "HEAD")
        what = f"HEAD of '{path}' points to {head.strip()!r}, which has no commits"
        return RevisionError(what, hint=f"choose with --rev: {hint}")
    return RevisionError(f"{revision!r} names nothing in '{path}'", where="--rev", hint=hint)


class Repo:
    """A commit of a repository, and the objects that it consists of."""

    def __init__(self, path: Path, location: RepositoryLocation) -> None:
        git_folder = location.git_folder
        self.path = path
        self.name = git_folder.parent.name if git_folder.name == ".git" else git_folder.name.removesuffix(".git")
        self._config_file = git_folder.absolute() / "config"
        self.objects_folder = git_folder / "objects"
        self._object_format = location.object_format
        self._id_bytes = hashlib.new(location.object_format).digest_size
        shallow = _read_file(git_folder / "shallow").decode("ascii", "replace")
        self.shallow_boundary = frozenset(re.findall(rf"(?m)^[0-9a-f]{{{2 * self._id_bytes}}}$", shallow))
        """Commits whose parents are missing because the clone is shallow."""
        self.is_shallow = bool(self.shallow_boundary)
        self.notes: list[str] = []
        """What a user should know about how this repository was read."""
        self.incomplete_reason = ""
        """Why the walked history is incomplete; known after `last_changes` was called."""
        self.has_uncertain_renames = False
        """Whether objects are missing that are needed to find renames; known after `last_changes` was called."""
        own_repository = _create_own_repository(location.object_format, self.shallow_boundary)
        weakref.finalize(self, shutil.rmtree, own_repository, ignore_errors=True)
        self._entries: list[TreeEntry] = []
        self._env = git_environment(GIT_DIR=str(own_repository), GIT_OBJECT_DIRECTORY=str(self.objects_folder))
        alternates = _read_file(self.objects_folder / "info" / "alternates").decode("utf-8", "replace").split("\n")
        self.notes += [f"objects are also read from {folder!r}" for folder in alternates if folder]
        if self.is_shallow:
            self.notes.append("the history is shallow: files that did not change since it begins have no last commit")
        self.commit, self._tree, self.committed_at = self._resolve_commit(location.object_id)
        if self.committed_at > time.time() + DAY_SECONDS:
            what = f"the date of the newest commit, {history.format_day(self.committed_at)}, lies in the future"
            self.notes.append(f"{what}: ages count from it, so that all other files look old")

    @classmethod
    def open(cls, path: str | Path, rev: str = "HEAD") -> Repo:
        """Open the repository that contains a path, at a branch, tag or commit; see `find_repository`."""
        return cls(Path(path), find_repository(Path(path), rev))

    @property
    def has_faulty_history(self) -> bool:
        """Whether objects of the history are missing or damaged; known after `last_changes` was called."""
        return self.has_uncertain_renames or self.incomplete_reason == history.UNREADABLE_REASON

    def public_name(self) -> str:
        """The last part of the URL of the remote `origin`, which all its clones have in common.

        `UNNAMED` if there is no such remote, or if it is a folder: names of folders differ between clones, and may be
        private. Only the last part is used, because the others may contain a host, an owner or a password.
        """
        wanted = ("--file", str(self._config_file), "--get", "remote.origin.url")
        _, url, _ = run_git("config", *wanted, env=git_environment())
        found = REMOTE_URL.fullmatch(url.strip())
        return found[1] if found else UNNAMED

    def _resolve_commit(self, object_id: str) -> tuple[str, str, int]:
        """Follow tags to a commit, and return its id, its tree and its committer time."""
        for _ in range(10):
            [(_, kind, data)] = self._read_objects([object_id])
            if isinstance(data, Unreadable):
                break
            target = re.match(rb"(?:tree|object) ([0-9a-f]+)\n", data)
            if kind not in {"commit", "tag"} or not target:
                raise RepositoryError(f"the revision names a {kind}, not a commit", where="--rev")
            if kind == "commit":
                return object_id, target[1].decode(), history.committer_time(data)
            object_id = target[1].decode()
        what = f"commit {object_id} cannot be read"
        raise RevisionError(what, where=str(self.path), hint="run `git fsck` for details")

    def start_git(self, *arguments: str, stdin: BinaryIO | None = None) -> AbstractContextManager[GitOutput]:
        """Start a git command that sees the objects and nothing else of the repository."""
        return start_git(*arguments, env=self._env, stdin=stdin)

    def entries(self) -> list[TreeEntry]:
        """Every file of the commit, sorted by the bytes of its path, and every folder that could not be opened.

        Raises:
            RepositoryError: There are more than `MAX_TREE_ENTRIES`, or `MAX_TOTAL_PATH_BYTES` in their paths.
        """
        if not self._entries:
            self._entries = self._walk_tree()
        return self._entries

    def root_entries(self) -> list[TreeEntry]:
        """The files and folders of the root folder, without their sizes; none if the folder cannot be read."""
        [(_, data)] = self._read_objects_of_kind("tree", [self._tree])
        children = data if isinstance(data, Unreadable) else _parse_tree(data, self._id_bytes)
        if isinstance(children, Unreadable):
            return []
        return [TreeEntry(decode_path(name), mode, blob, None) for name, mode, blob in children]

    def _walk_tree(self) -> list[TreeEntry]:
        files: list[tuple[bytes, int, str]] = []
        unopened: list[TreeEntry] = []
        level = [(b"", self._tree)]
        entry_count = depth = path_bytes = 0
        while level:
            trees = {
                tree: data if isinstance(data, Unreadable) else _parse_tree(data, self._id_bytes)
                for tree, data in self._read_objects_of_kind("tree", sorted({tree for _, tree in level}))
            }
            next_level: list[tuple[bytes, str]] = []
            for prefix, tree in level:
                children = trees[tree]
                if depth > MAX_FOLDER_DEPTH or len(prefix) > MAX_PATH_BYTES:
                    children = Unreadable("too_deep", f"{depth} folders")
                if isinstance(children, Unreadable):
                    if not prefix:
                        raise RepositoryError(f"the root folder of commit {self.commit} is {children.reason}")
                    unopened.append(TreeEntry(decode_path(prefix[:MAX_PATH_BYTES]), FOLDER_MODE, tree, None, children))
                    continue
                entry_count += len(children)
                path_bytes += sum(len(prefix) + len(name) for name, _, _ in children)
                if entry_count > MAX_TREE_ENTRIES:
                    what = f"the commit has more than {MAX_TREE_ENTRIES:,} files and folders"
                    raise RepositoryError(what, where=str(self.path))
                if path_bytes > MAX_TOTAL_PATH_BYTES:
                    what = f"the paths of the commit have more than {MAX_TOTAL_PATH_BYTES:,} bytes"
                    raise RepositoryError(what, where=str(self.path))
                for name, mode, object_id in children:
                    path = prefix + name
                    if mode & MODE_TYPE_MASK == FOLDER_MODE:
                        next_level.append((path + b"/", object_id))
                    elif len(path) > MAX_PATH_BYTES:
                        why = Unreadable("long_path", f"{len(path)} bytes")
                        unopened.append(TreeEntry(decode_path(path[:MAX_PATH_BYTES]), mode, object_id, None, why))
                    else:
                        files.append((path, mode, object_id))
            level = next_level
            depth += 1
        sizes = self.blob_sizes(object_id for _, mode, object_id in files if mode & MODE_TYPE_MASK != SUBMODULE_MODE)
        entries = [TreeEntry(decode_path(path), mode, blob, sizes.get(blob)) for path, mode, blob in files]
        return sorted(entries + unopened, key=lambda entry: encode_path(entry.path))

    def blob_sizes(self, blobs: Iterable[str]) -> dict[str, int]:
        """The size in bytes of each readable blob, without reading any."""
        ids = list(dict.fromkeys(blobs))
        sizes = self._cat_file("--batch-check", ids, _parse_size)
        return {blob: size for blob, size in zip(ids, sizes, strict=True) if isinstance(size, int)}

    def read_blobs(self, blobs: Iterable[str]) -> Iterator[tuple[str, bytes | Unreadable]]:
        """The content of each blob in the given order. Check `blob_sizes` first: each content is held in memory."""
        return self._read_objects_of_kind("blob", blobs)

    def read_commits(self, commits: Iterable[str]) -> Iterator[tuple[str, bytes | Unreadable]]:
        """The stored data of each commit in the given order."""
        return self._read_objects_of_kind("commit", commits)

    def last_changes(self) -> dict[str, LastChange]:
        """The last commit that changed each path of the commit; see `git_starcoder.git.history`."""
        return history.walk_history(self).last_changes

    def explain_unreadable(self, blob: str) -> Unreadable:
        """Why a blob has no size: it is missing or damaged."""
        if (self.objects_folder / blob[:2] / blob[2:]).exists():
            return Unreadable("corrupt", "the object's header cannot be read")
        return Unreadable("missing", "the object is not in the repository")

    def _read_objects_of_kind(self, kind: str, ids: Iterable[str]) -> Iterator[tuple[str, bytes | Unreadable]]:
        for object_id, found_kind, data in self._read_objects(list(ids)):
            if not isinstance(data, Unreadable) and found_kind != kind:
                data = Unreadable("corrupt", f"is a {found_kind}{', not a folder' if kind == 'tree' else ''}")
            yield object_id, data

    def _read_objects(self, ids: Sequence[str]) -> Iterator[tuple[str, str, bytes | Unreadable]]:
        """Id, kind and data of each object."""
        for object_id, answer in zip(ids, self._cat_file("--batch", ids, self._parse_object), strict=True):
            yield (object_id, "", answer) if isinstance(answer, Unreadable) else (object_id, *answer)

    def _cat_file(
        self, option: str, ids: Sequence[str], parse: Callable[[GitOutput, str], T | Unreadable]
    ) -> Iterator[T | Unreadable]:
        """Run `git cat-file` on objects. If it dies or prints nonsense, a new process continues after that object."""
        if not ids:
            return
        with tempfile.TemporaryFile(dir=temporary_folder()) as input_file:
            input_file.writelines(f"{object_id}\n".encode() for object_id in ids)
            input_file.flush()
            done = 0
            while done < len(ids):
                os.lseek(input_file.fileno(), done * (2 * self._id_bytes + 1), os.SEEK_SET)
                with self.start_git("cat-file", option, "--buffer", stdin=input_file) as output:
                    while done < len(ids):
                        result = parse(output, ids[done])
                        done += 1
                        if isinstance(result, UntrustedOutput):
                            yield Unreadable(*result)
                            break
                        yield result

    def _parse_object(self, output: GitOutput, object_id: str) -> tuple[str, bytes] | Unreadable:
        """Kind and data of one object in the output of `cat-file --batch`, hashed again."""
        match (output.read_line() or b"").decode("ascii", "replace").split(" "):
            case [name, "missing"] if name == object_id:
                return self.explain_unreadable(object_id)
            case [name, kind, digits] if name == object_id and digits.isdecimal():
                size = int(digits)
            case _:
                return UntrustedOutput("corrupt", "git cannot read it")
        if size > MAX_OBJECT_BYTES:
            return UntrustedOutput("too_large", f"{size} bytes")
        data = output.read_bytes(size)
        if len(data) < size or output.read_bytes(1) != b"\n":
            return UntrustedOutput("corrupt", "it is cut off, or its size is a lie")
        digest = hashlib.new(self._object_format, f"{kind} {size}\0".encode())
        digest.update(data)
        if digest.hexdigest() != object_id:
            return UntrustedOutput("corrupt", "its content does not have its name")
        return kind, data


def _parse_size(output: GitOutput, object_id: str) -> int | Unreadable:
    """The size of one blob in the output of `cat-file --batch-check`."""
    match (output.read_line() or b"").decode("ascii", "replace").split(" "):
        case [name, "blob", digits] if name == object_id and digits.isdecimal():
            return int(digits)
        case [name, *_] if name == object_id:
            return Unreadable("missing")
        case _:
            return UntrustedOutput("corrupt")


def _parse_tree(data: bytes, id_bytes: int) -> list[tuple[bytes, int, str]] | Unreadable:
    """Name, mode and object id of each entry of a tree object."""
    children: list[tuple[bytes, int, str]] = []
    offset = 0
    while match := TREE_ENTRY_PATTERN.match(data, offset):
        offset = match.end() + id_bytes
        children.append((match[2], int(match[1], 8), data[match.end() : offset].hex()))
    return children if offset == len(data) else Unreadable("corrupt", "the folder's list is malformed")


def _create_own_repository(object_format: str, shallow_boundary: frozenset[str]) -> Path:
    """Create an empty bare repository in a temporary folder."""
    parent = temporary_folder()
    try:
        folder = Path(tempfile.mkdtemp(prefix="git-starcoder-", dir=parent))
        for name in ("objects", "refs"):
            (folder / name).mkdir()
        (folder / "HEAD").write_text("ref: refs/heads/none\n")
        config = "[core]\nbare = true\ncommitGraph = false\n"
        if object_format != "sha1":
            config += f"repositoryFormatVersion = 1\n[extensions]\nobjectFormat = {object_format}\n"
        (folder / "config").write_text(config)
        if shallow_boundary:
            (folder / "shallow").write_text("".join(f"{commit}\n" for commit in sorted(shallow_boundary)))
    except OSError as error:
        raise RepositoryError(f"no temporary folder can be created: {error.strerror}", where=parent) from error
    return folder


def _read_file(path: Path) -> bytes:
    """A small file of the repository; empty if there is none."""
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(MAX_OBJECT_BYTES)
    except OSError as error:
        raise RepositoryError(f"a file cannot be read: {error.strerror}", where=str(path)) from error
