"""Reads the files of a work tree that a model may know: as a build reads a commit, but as they are on disk now.

Git lists the files, so what it ignores is never read. Files that contain a secret, or are made of them, are not used,
and neither are binary, huge, generated and vendored ones.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.errors import RepositoryError
from git_starcoder.git.command import git_environment, run_git
from git_starcoder.git.objects import SAFE_OPTIONS
from git_starcoder.parse.language import detect_language
from git_starcoder.parse.own_output import recognise_own_output
from git_starcoder.parse.role import decide_role
from git_starcoder.recipe import ReadOptions
from git_starcoder.records import FOREIGN_ROLES
from git_starcoder.text.clean import clean_file, find_refusal, max_file_bytes
from git_starcoder.text.encoding import Refusal
from git_starcoder.text.secrets import secret_file_reason
from git_starcoder.user_paths import home_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

READ_OPTIONS = ReadOptions(secrets="drop")
"""A build redacts secrets. Here files with secrets are not used at all: what replaces a secret is no code to
suggest."""
MAX_PATHS_PER_CALL = 256
"""Paths that git is asked about at once; for more, all files are listed, which is faster."""


class FileVersion(NamedTuple):
    """What shows without reading it whether a file has changed."""

    changed_at: int
    """Nanoseconds."""
    size: int
    inode: int


class WorkTree:
    """The files of a work tree."""

    def __init__(self, folder: Path) -> None:
        """Find the work tree that contains a folder.

        Raises:
            RepositoryError: It is in none, or git cannot read its configuration.
        """
        code, output, message = run_git(
            "-C", str(folder.absolute()), *SAFE_OPTIONS, "rev-parse", "--show-toplevel", env=git_environment()
        )
        if code:
            what = f"'{folder}' is not in a work tree: {message}"
            raise RepositoryError(what, where="--repo", hint="give the folder of a Git repository that is checked out")
        self.root = Path(output.removesuffix("\n"))
        self._ignore_file = _find_ignore_file(self.root)

    def list_files(self, paths: Iterable[str] = ()) -> set[str]:
        """List the files that git does not ignore; with `paths`, only those that are, or are in, one of these.

        Raises:
            RepositoryError: Git cannot list them, for example because the index is just being replaced.
        """
        wanted = list(paths)
        if len(wanted) > MAX_PATHS_PER_CALL:
            wanted = []
        code, output, message = run_git(
            "--literal-pathspecs", "-C", str(self.root), *SAFE_OPTIONS, *self._ignore_option(), "ls-files", "-z",
            "--cached", "--others", "--exclude-standard", "--", *wanted, env=git_environment(),
        )  # fmt: skip
        if code:
            raise RepositoryError(f"git cannot list the files: {message}", where=str(self.root))
        return set(filter(None, output.split("\0")))

    def ignores(self, path: str) -> bool:
        """Whether git ignores a path, which need not exist. What it cannot judge counts as ignored."""
        parts = PurePosixPath(path).parts
        if not parts or parts[0] in {"/", ".git"} or ".." in parts or "\0" in path:
            return True
        code, *_ = run_git(
            "-C", str(self.root), *SAFE_OPTIONS, *self._ignore_option(), "check-ignore", "-q", "--", f"./{path}",
            env=git_environment(),
        )  # fmt: skip
        return code != 1

    def _ignore_option(self) -> tuple[str, str]:
        """The option that names the user's own ignore file. Git would wait for a pipe there, so it counts as empty."""
        try:
            is_other = not stat.S_ISREG((self.root / self._ignore_file).stat().st_mode)
        except OSError:  # it may be made later
            is_other = False
        return "-c", f"core.excludesFile={'' if is_other else self._ignore_file}"

    def version(self, path: str) -> FileVersion | None:
        """The version of a regular file on disk; None if there is none."""
        try:
            status = (self.root / path).lstat()
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size > max_file_bytes(path, READ_OPTIONS):
            return None
        return FileVersion(status.st_mtime_ns, status.st_size, status.st_ino)

    def read_text(self, path: str) -> bytes | None:
        """The text of a file, as UTF-8; None if it is not to be known."""
        if secret_file_reason(path):
            return None
        try:
            if not (self.root / path).parent.resolve().is_relative_to(self.root.resolve()):
                return None
            with os.fdopen(os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                data = file.read(max_file_bytes(path, READ_OPTIONS) + 1)
        except (OSError, ValueError):
            return None
        return clean_source(path, data)


def clean_source(path: str, data: bytes) -> bytes | None:
    """The text of a file with this content, as UTF-8; None if it is not to be known."""
    if recognise_own_output(data):
        return None
    cleaned = clean_file(data, READ_OPTIONS)
    if isinstance(cleaned, Refusal) or find_refusal(path, cleaned, READ_OPTIONS):
        return None
    role, _ = decide_role(path, detect_language(path, cleaned.text), cleaned.text)
    return None if role in FOREIGN_ROLES else cleaned.text


def _find_ignore_file(root: Path) -> str:
    """The user's own ignore file for a work tree; empty if there is none.

    Our git does not find it: it reads no configuration of the user. So git is asked as the user would ask it, for one
    value, which runs nothing.
    """
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key.startswith("GIT_CONFIG_")
    }
    code, output, message = run_git(
        "-C", str(root), *SAFE_OPTIONS, "config", "--get", "--type=path", "core.excludesFile", env=kept
    )
    if code not in {0, 1}:
        raise RepositoryError(f"git cannot read its configuration: {message}", where=str(root))
    home = home_folder()
    base = os.environ.get("XDG_CONFIG_HOME") or (str(home / ".config") if home else "")
    return output.removesuffix("\n") if not code else f"{base}/git/ignore" if base else ""
