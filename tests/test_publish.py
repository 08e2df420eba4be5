"""Publishing where the user has something: files of their own, links, mounts and rights, and kills at every moment."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from git_starcoder.errors import OutputError
from git_starcoder.output.contents import GITIGNORE_TEXT, OutputKind, describe_files
from git_starcoder.output.files import write_atomically
from git_starcoder.output.folder import atomic_folder, resolve_destination

KIND = OutputKind(
    "thing", "maker", "sign.json", "git-starcoder/thing/", frozenset({"README.md"}), {"score.json": "score/"}
)


def fill(folder, version):
    """Files of one version; each has a file that no other has."""
    (folder / "README.md").write_text(f"readme {version}")
    (folder / "parts").mkdir()
    (folder / "parts" / "same").write_text(f"same {version}")
    (folder / f"only_{version}").write_text(version)
    (folder / f"folder_{version}").mkdir()
    (folder / f"folder_{version}" / "file").write_text(version)
    (folder / "sign.json").write_text(json.dumps({"schema": "git-starcoder/thing/1", "files": describe_files(folder)}))


def make(out, version, *, force=False, meanwhile=lambda: None):
    with atomic_folder(Path(out), KIND, lambda _: None, force=force) as (folder, _):
        fill(folder, version)
        meanwhile()


def text(folder):
    """Every file and link of a folder with what is in it."""
    return {
        path.relative_to(folder).as_posix(): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def expected(tmp_path_factory, version):
    folder = tmp_path_factory.mktemp("expected") / "out"
    make(folder, version)
    return text(folder)


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """What the folder of each version has in it."""
    return {version: expected(tmp_path_factory, version) for version in ("one", "two")}


def users(out):
    """Put files of the user into a folder of ours; gives all that must be there afterwards."""
    mine = {
        "NOTES.txt": "notes", ".DS_Store": "icons", "parts/mine.csv": "labels", "mine/deep/table": "rows",
        ".git/HEAD": "ref: refs/heads/main", "folder_one/mine": "mine", "sign.json.bak": "old",
    }  # fmt: skip
    for name, content in mine.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(content)
    (out / "NOTES.txt").chmod(0o444)
    (out / "link").symlink_to(out.parent / "elsewhere")
    (out / "dangling").symlink_to("nowhere")
    return {**mine, "link": f"-> {out.parent / 'elsewhere'}", "dangling": "-> nowhere"}


@pytest.mark.parametrize("force", [False, True])
def test_files_of_the_user_are_kept(tmp_path, versions, force):
    out = tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.tex").write_text("thesis")
    make(out, "one")
    mine = users(out)
    make(out, "two", force=force)
    assert text(out) == versions["two"] | mine
    assert (out / "NOTES.txt").stat().st_mode & 0o777 == 0o444
    assert (tmp_path / "elsewhere" / "thesis.tex").read_text() == "thesis"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "out"]


def test_files_that_come_while_it_is_made_are_kept(tmp_path, versions):
    out = tmp_path / "out"
    make(out, "one")
    make(out, "two", meanwhile=lambda: (out / "mine.txt").write_text("mine"))
    assert text(out) == versions["two"] | {"mine.txt": "mine"}


def test_a_file_that_comes_with_a_name_of_ours_is_kept(tmp_path):
    out = tmp_path / "out"
    make(out, "one")
    with pytest.raises(OutputError, match=r"'only_two' in .* was not written by git-starcoder"):
        make(out, "two", force=True, meanwhile=lambda: (out / "only_two").write_text("mine"))
    assert (out / "only_two").read_text() == "mine"
    assert (out / "only_one").read_text() == "one"


@pytest.mark.parametrize("change", ["text", "same size", "link"])
def test_an_edited_file_of_ours_is_replaced_only_by_force(tmp_path, versions, change):
    out = tmp_path / "out"
    make(out, "one")
    edited = out / "only_one"
    if change == "link":
        edited.rename(tmp_path / "big")
        edited.symlink_to(tmp_path / "big")
    else:
        edited.write_text("mine, by hand" if change == "text" else "ONE")
    before = text(out)
    with pytest.raises(OutputError, match="changed after they were written: only_one") as told:
        make(out, "two")
    assert "--force" in told.value.hint
    assert text(out) == before
    make(out, "two", force=True)
    assert text(out) == versions["two"]
    assert change != "link" or (tmp_path / "big").read_text() == "one"


def test_a_file_of_the_user_with_a_name_of_ours_is_in_the_way(tmp_path):
    out = tmp_path / "out"
    with atomic_folder(out, KIND, lambda _: None) as (folder, _):  # as an older version made it, without a card
        (folder / "sign.json").write_text(json.dumps({"schema": "git-starcoder/thing/1", "files": {}}))
    (out / "README.md").write_text("mine")
    for force in (False, True):
        with pytest.raises(OutputError, match=r"files of yours with names that the thing needs: README.md"):
            make(out, "two", force=force)
    assert (out / "README.md").read_text() == "mine"


def test_a_folder_with_the_name_of_a_file_of_ours_is_in_the_way(tmp_path):
    out = tmp_path / "out"
    make(out, "one")
    (out / "only_one").unlink()
    (out / "only_one").mkdir()
    (out / "only_one" / "mine").write_text("mine")
    for force in (False, True):
        with pytest.raises(OutputError, match="names that the thing needs: only_one"):
            make(out, "two", force=force)
    assert (out / "only_one" / "mine").read_text() == "mine"


def test_a_folder_of_ours_that_became_a_link_is_not_followed(tmp_path):
    out = tmp_path / "out"
    make(out, "one")
    (out / "parts").rename(tmp_path / "big")
    (out / "parts").symlink_to(tmp_path / "big")
    with pytest.raises(OutputError, match=r"'parts' in .* was replaced by a link"):
        make(out, "two", force=True)
    assert (tmp_path / "big" / "same").read_text() == "same one"


@pytest.mark.parametrize(
    "sign",
    [
        '{"name": "of an extension", "manifest_version": 3}',
        '{"schema": "another/1", "files": {}}',
        '{"schema": "git-starcoder/thing/1"}',
        '{"schema": "git-starcoder/thing/1", "files": {"../../victim": {"bytes": 1}}}',
        '{"schema": "git-starcoder/thing/1", "files": {"/etc/hosts": {"bytes": 1}}}',
        "{",
        "[]",
        "",
    ],
)
def test_a_folder_with_another_sign_is_not_ours(tmp_path, sign):
    out = tmp_path / "out"
    out.mkdir()
    (out / "sign.json").write_text(sign)
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="not a git-starcoder thing"):
        make(out, "one", force=True)
    assert text(out) == {"sign.json": sign, "thesis.tex": "mine"}


def test_what_was_added_later_goes_with_its_folder(tmp_path, versions):
    out = tmp_path / "out"
    make(out, "one")
    (out / "score.json").write_text('{"schema": "score/1"}')
    make(out, "two")
    assert text(out) == versions["two"]
    (out / "score.json").write_text('{"mine": 1}')
    make(out, "one")
    assert text(out) == versions["one"] | {"score.json": '{"mine": 1}'}
    make(out, "two")
    assert text(out) == versions["two"] | {"score.json": '{"mine": 1}'}


def test_the_users_ignore_file_stays(tmp_path, versions):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".gitignore").write_text("!*\n")
    make(out, "one")
    make(out, "two")
    assert text(out) == versions["two"] | {".gitignore": "!*\n"}


def test_an_ignore_file_that_the_user_removed_does_not_come_back(tmp_path, versions):
    out = tmp_path / "out"
    make(out, "one")
    assert (out / ".gitignore").read_text() == versions["two"][".gitignore"] == GITIGNORE_TEXT
    assert GITIGNORE_TEXT.endswith("\n*\n")
    (out / ".gitignore").unlink()
    make(out, "two")
    assert text(out).keys() == versions["two"].keys() - {".gitignore"}
    (out / ".gitignore").write_text("*.tmp\n")
    make(out, "one")
    assert text(out) == versions["one"] | {".gitignore": "*.tmp\n"}


def test_git_sees_nothing_of_a_folder_of_ours(tmp_path, git):
    git(tmp_path, "init", "-q", ".")
    seen = []
    make(tmp_path / "out", "one", meanwhile=lambda: seen.append(git(tmp_path, "status", "--porcelain")))
    assert [*seen, git(tmp_path, "status", "--porcelain")] == [b"?? .out.lock\n", b""]


@pytest.mark.parametrize("chain", [1, 3])
@pytest.mark.parametrize("target", ["empty", "used"])
def test_a_link_stays_and_the_data_lie_where_it_points(tmp_path, versions, chain, target):
    big = tmp_path / "disk" / "big"
    big.mkdir(parents=True)
    link = tmp_path / "link"
    last = big
    for number in range(chain - 1):
        (tmp_path / f"link{number}").symlink_to(last)
        last = tmp_path / f"link{number}"
    link.symlink_to(last)
    if target == "used":
        make(big, "one")
    make(link, "two")
    make(link / "", "one")
    assert link.readlink() == last
    assert text(big) == versions["one"]
    assert [path.name for path in big.parent.iterdir()] == ["big"]


def test_a_link_above_the_output_stays(tmp_path, versions):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    make(tmp_path / "link" / "deep" / "out", "one")
    assert text(tmp_path / "disk" / "deep" / "out") == versions["one"]
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("below", ["", "deep"])
@pytest.mark.parametrize("target", ["nowhere", "link", "file"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path, target, below):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OutputError) as told:
        make(tmp_path / "link" / below, "one")
    if target != "file":
        assert told.value.what.endswith(f"is not a git-starcoder thing, but a link to '{target}', which does not exist")
    assert text(tmp_path) == {"file": "mine", "link": f"-> {target}"}
    assert len(list(tmp_path.iterdir())) == 2


def test_places_that_cannot_be_an_output(tmp_path, git):
    for path in ("/", "/..", tmp_path / "link"):
        if path == tmp_path / "link":
            path.symlink_to("/")
        with pytest.raises(OutputError, match="is the root of the file system"):
            resolve_destination(Path(path), "thing")
    git(tmp_path, "init", "-q", "work")
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    git(tmp_path, "init", "-q", "--separate-git-dir", str(tmp_path / "apart"), "other")
    for place in ("work/.git", "work/.git/deep/out", "bare.git", "bare.git/out", "apart/out"):
        with pytest.raises(OutputError, match="is inside the git directory"):
            make(tmp_path / place, "one", force=True)
        assert not (tmp_path / place / "sign.json").exists()
    for place in ("work", "other"):
        with pytest.raises(OutputError, match="not a git-starcoder thing"):
            make(tmp_path / place, "one", force=True)
        make(tmp_path / place / "out", "one")


def test_the_current_folder_as_output(tmp_path, versions, monkeypatch):
    out = tmp_path / "here"
    out.mkdir()
    monkeypatch.chdir(out)
    inode = out.stat().st_ino
    make(".", "one")
    make("", "two")
    assert text(Path()) == text(out) == versions["two"]
    (out / "parts").mkdir(exist_ok=True)
    monkeypatch.chdir(out / "parts")
    make("..", "one")
    assert text(out) == versions["one"]
    assert out.stat().st_ino == inode


def test_an_empty_folder_stays_with_its_rights(tmp_path, versions):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o2750)
    if os.geteuid() == 0:
        os.chown(out, 12345, 23456)
    (out / "lost+found").mkdir()
    before = out.stat()
    for version in ("one", "two"):
        make(out, version)
        after = out.stat()
        assert [getattr(after, key) for key in ("st_ino", "st_mode", "st_uid", "st_gid")] == [
            getattr(before, key) for key in ("st_ino", "st_mode", "st_uid", "st_gid")
        ]
        assert text(out) == versions[version]
        assert {path.stat().st_gid for path in out.rglob("*")} - {(out / "lost+found").stat().st_gid} <= {before.st_gid}
    assert (out / "lost+found").is_dir()


def test_a_folder_that_is_replaced_keeps_its_rights(tmp_path):
    out = tmp_path / "out"
    make(out, "one")
    out.chmod(0o700)
    seen = []
    make(out, "two", meanwhile=lambda: seen.append((tmp_path / ".out.partial").stat().st_mode & 0o777))
    assert seen == [0o700]
    assert out.stat().st_mode & 0o777 == 0o700
    assert (out / "only_two").stat().st_mode & 0o777 == 0o600


def as_somebody(code, tmp_path):
    """Run code as a user without privileges, on a folder that everybody can reach."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    lines = [f"import sys; sys.path[:] = {[str(Path(__file__).parent), *sys.path]!r}", "import os"]
    lines += ["from test_publish import *", "os.setgid(65534); os.setuid(65534)", code]
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
        if folder.name.startswith("pytest-of"):
            break
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    return done.returncode, done.stderr.strip().splitlines()[-1:]


def test_a_folder_in_one_that_cannot_be_written(tmp_path, versions):
    out = tmp_path / "closed" / "out"
    out.mkdir(parents=True)
    out.chmod(0o777)
    (tmp_path / "closed").chmod(0o755)
    assert as_somebody(f"make({str(out)!r}, 'one'); make({str(out)!r}, 'two')", tmp_path) == (0, [])
    assert text(out) == versions["two"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    out = tmp_path / "open" / "out"
    make(out, "one")
    (tmp_path / "open").chmod(0o777)
    work = "lambda: print('worked', file=sys.stderr)"
    code, said = as_somebody(f"make({str(out)!r}, 'two', meanwhile={work})", tmp_path)
    assert code == 1
    assert said == [f"git_starcoder.errors.OutputError: '{out}' cannot be written"]
    assert (out / "only_one").exists()
    (tmp_path / "open").chmod(0o755)
    code, said = as_somebody(f"make({str(tmp_path / 'open' / 'new')!r}, 'two')", tmp_path)
    assert code == 1
    assert said == [f"git_starcoder.errors.OutputError: cannot write '{tmp_path / 'open' / 'new'}': Permission denied"]


def test_somebody_elses_folder_in_a_sticky_one(tmp_path, versions):
    place = tmp_path / "sticky"
    place.mkdir()
    place.chmod(0o1777)
    make(place / "out", "one")
    for path in (place / "out", *(place / "out").rglob("*")):
        path.chmod(0o777)
    assert as_somebody(f"make({str(place / 'out')!r}, 'two')", tmp_path) == (0, [])
    assert text(place / "out") == versions["two"]


def mounted(tmp_path, code, *mounts):
    """Run code where some mounts are, in a world of mounts of its own."""
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True) if shutil.which("unshare") else None
    if tried is None or tried.returncode:
        pytest.skip("mounts cannot be made here")
    script = (
        f"import sys; sys.path[:] = {[str(Path(__file__).parent), *sys.path]!r}\nfrom test_publish import *\n{code}"
    )
    (tmp_path / "script.py").write_text(script)
    commands = [*(f"mount {mount}" for mount in mounts), f"{sys.executable} {tmp_path / 'script.py'}"]
    done = subprocess.run(["unshare", "--mount", "sh", "-ec", "\n".join(commands)], capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_mount_point_of_the_same_file_system(tmp_path, versions, through_a_link):
    data, out = tmp_path / "data", tmp_path / "work" / "my out"
    for folder in (data, out):
        folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(out)
    given = tmp_path / "link" if through_a_link else out
    code = f"make({str(given)!r}, 'one'); make({str(given)!r}, 'two')"
    assert mounted(tmp_path, code, f"--bind {data} '{out}'") == (0, "")
    assert text(data) == versions["two"]
    assert list(out.iterdir()) == []
    assert [path.name for path in out.parent.iterdir()] == ["my out"]


def test_a_mount_point_of_another_file_system(tmp_path, versions):
    out = tmp_path / "out"
    out.mkdir()
    code = f"""
make({str(out)!r}, "one")
users(Path({str(out)!r}))
make({str(out)!r}, "two")
print(json.dumps(text(Path({str(out)!r}))), file=open({str(tmp_path / "found")!r}, "w"))
"""
    assert mounted(tmp_path, code, f"-t tmpfs none {out}") == (0, "")
    found = json.loads((tmp_path / "found").read_text())
    assert found.items() >= versions["two"].items()
    assert found["NOTES.txt"] == "notes"


def test_a_mount_point_inside_the_output_is_refused(tmp_path):
    out = tmp_path / "out"
    make(out, "one")
    code, said = mounted(tmp_path, f"make({str(out)!r}, 'two')", f"-t tmpfs none {out / 'parts'}")
    assert code == 1
    assert f"'parts' in '{out}' is a file system of its own" in said
    assert (out / "parts" / "same").read_text() == "same one"


KILLED = """
import os, pathlib, shutil, signal, sys
sys.path[:] = PATHS
from test_publish import *
left = int(sys.argv[1])
def counted(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
for owner, name in ((pathlib.Path, "rename"), (pathlib.Path, "replace"), (pathlib.Path, "unlink"),
                    (pathlib.Path, "rmdir"), (pathlib.Path, "mkdir"), (os, "fsync"), (os, "unlink"), (os, "rmdir")):
    setattr(owner, name, counted(getattr(owner, name)))
make(sys.argv[2], "two")
"""


@pytest.mark.parametrize("with_users", [False, True], ids=["the folder is replaced", "files are replaced"])
def test_a_kill_at_any_moment_loses_nothing(tmp_path, versions, with_users):
    script = tmp_path / "killed.py"
    script.write_text(KILLED.replace("PATHS", repr([str(Path(__file__).parent), *sys.path])))
    states = set()
    for moment in range(0, 400, 3 if with_users else 2):
        out = tmp_path / str(moment) / "out"
        make(out, "one")
        mine = users(out) if with_users else {}
        done = subprocess.run([sys.executable, script, str(moment), out])
        found = {} if not out.exists() else {n: t for n, t in text(out).items() if not n.startswith(".out.")}
        assert mine.items() <= found.items()
        whole_one = next((version for version in versions if found == versions[version] | mine), None)
        if (out / "sign.json").exists():
            assert whole_one
        else:
            assert with_users or not out.exists()
        states.add(whole_one or "neither")
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        make(out, "two")
        assert text(out) == versions["two"] | mine
        assert [path.name for path in out.parent.iterdir()] == ["out"]
    else:
        raise AssertionError("it never ended")
    assert states == {"one", "two", "neither"}


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644)])
def test_a_single_file_has_the_permissions_of_the_umask(tmp_path, mask, mode):
    tmp_path.chmod(0o777)
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "page.html", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == mode
    (tmp_path / "page.html").chmod(0o640)
    write_atomically(tmp_path / "page.html", "other")
    assert ((tmp_path / "page.html").stat().st_mode & 0o777, (tmp_path / "page.html").read_text()) == (0o640, "other")
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_file_system_that_does_not_flush_folders_is_enough(tmp_path, monkeypatch):
    flush = os.fsync

    def refuse_folders(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(handle)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    make(tmp_path / "out", "one")
    assert text(tmp_path / "out")
    monkeypatch.setattr(os, "fsync", lambda _: os.close(-1))  # EBADF, now of a file, too
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        write_atomically(tmp_path / "page.html", "text")
    assert os.listdir(tmp_path) == ["out"]
