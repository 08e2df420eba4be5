"""A history that nobody trusts, through the real command line: every oddity is counted or told in a line, none hangs."""

from __future__ import annotations

import json
import subprocess
import zlib
from random import Random

import pytest

from git_starcoder.checks import check
from git_starcoder.dataset import Dataset
from shell import HUNG, environment
from toy import evolving

SMALL = ("-r", "elite", "--set", "window.vocab_size=800", "--set", "window.size=[64, 256]", "--no-cache", "-j", "1")
SOUND = {"rows", "counts", "digests", "duplicates", "leak", "secrets"}
BODY = "".join(f"def f{number}(a):\n    return a + {number}\n" for number in range(12))
MESSAGES = (
    b"", b"\n\n\n", b"\xff\xfe caf\xe9\n", b"x\0y\n", b"a" * 10_000_000, b"line of text\n" * 400_000, b"`" * 3_000_000,
    b"Signed-off-by: a <a@b>\n" * 100_000, b"k" + b": v\n k" * 200_000, b"-----BEGIN RSA PRIVATE KEY-----\n" * 100_000,
    b"AKIA" * 500_000, b"password='" * 300_000, b" \t" * 2_000_000 + b"x", Random(0).randbytes(500_000),
)  # fmt: skip


@pytest.fixture
def built(tmp_path):
    """Build the elite dataset of a repository with the command; gives what it said and the dataset."""

    def run(repo):
        command = ["git", "starcoder", "build", str(repo), "-o", str(tmp_path / "out"), *SMALL]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=False, timeout=HUNG, cwd=tmp_path
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == 0, done.stderr
        return done.stderr.splitlines(), Dataset.open(tmp_path / "out")

    return run


def broken(dataset):
    """What is wrong with a dataset, but for what so few files cannot promise, as the shares of the splits."""
    return [outcome for outcome in check(dataset) if outcome.check in SOUND and outcome.finding_count]


def loosen(git, repo):
    """Have every object in a file of its own, where it can be spoiled."""
    for pack in (repo / ".git/objects/pack").glob("*.pack"):
        data = pack.read_bytes()
        pack.with_suffix(".idx").unlink()
        pack.unlink()
        git(repo, "unpack-objects", "-q", stdin=data)


def place(git, repo, revision):
    """The file of an object."""
    name = git(repo, "rev-parse", revision).decode().strip()
    return repo / ".git/objects" / name[:2] / name[2:]


def spoil(git, repo, revision, raw):
    """Put other bytes, or fewer, in the place of an object."""
    path = place(git, repo, revision)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(raw if raw is not None else data[: len(data) // 2])


def put(git, repo, kind, data):
    """Keep an object, whatever git thinks of it."""
    return git(repo, "hash-object", "-w", "-t", kind, "--stdin", "--literally", stdin=data).decode().strip()


def commit(git, repo, tree, parents, message=b"x\n"):
    """Keep a commit object."""
    lines = [b"tree " + tree.encode(), *(b"parent " + parent.encode() for parent in parents)]
    lines += [b"author A <a@b> 1700000000 +0000", b"committer A <a@b> 1703000000 +0000", b"", message]
    return put(git, repo, "commit", b"\n".join(lines))


def listed(entries):
    """The content of a tree object."""
    return b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)


def edited(git, repo, parents, name, text, message):
    """A commit that gives one file at the top another text."""
    tree = git(repo, "ls-tree", parents[0]).decode()
    entry = f"100644 blob {put(git, repo, 'blob', text)}\t{name}"
    lines = [line for line in tree.splitlines() if not line.endswith(f"\t{name}")] + [entry]
    made = git(repo, "mktree", stdin="\n".join(lines).encode()).decode().strip()
    return commit(git, repo, made, parents, message)


def test_every_oddity_at_once(repo_maker, git, built):
    names = ["turn.py", "turned.py", "turning.py"]
    circle = [{names[at % 3]: None, names[(at + 1) % 3]: f"{BODY}x = {at}\n"} for at in range(7)]
    bytes_ = [
        {b"caf\xe9.py": f"{BODY}y = {at}\n", b"new\nline.py": f"def z(b):\n    return b * {at}\n" * 9}
        for at in range(2)
    ]
    repo = repo_maker([*evolving(30, 8), {"turn.py": BODY}, *circle, *bytes_])
    loosen(git, repo)
    path = git(repo, "diff", "--name-only", "--diff-filter=M", "HEAD~13", "HEAD~12").decode().split()[0]
    spoil(git, repo, f"HEAD~12:{path}", zlib.compress(b"blob 5\0evil\n"))
    head = git(repo, "rev-parse", "HEAD").decode().strip()
    arms = [edited(git, repo, [head], "arms.py", f"arm = {at}\n".encode() * 5, b"arm\n") for at in range(20)]
    head = edited(git, repo, arms, "arms.py", b"arm = 'all'\n" * 5, b"all\n")
    for number, message in enumerate(MESSAGES):
        head = edited(git, repo, [head], "told.py", f"told = {number}\n".encode() * 4, message)
    tree = git(repo, "rev-parse", f"{head}^{{tree}}").decode().strip()
    git(repo, "update-ref", "refs/heads/main", commit(git, repo, tree, [head, head, head]))
    said, dataset = built(repo)
    assert len(said) == 9, "a line for each step and none besides"
    read = dataset.manifest["steps"][0]
    assert read["dropped"]["corrupt"] >= 1
    assert read["figures"]["commits"] >= 8 + 1 + 7 + 2 + 20 + 1 + len(MESSAGES) + 1
    assert read["figures"]["changes_renamed"] >= 7
    rows = [row.metadata for split in ("train", "val", "test") for row in dataset.rows(split)]
    changed = [row for row in rows if row["augmentation_type"] == "git_diff"]
    assert max(len(json.dumps(row["commit_message"])) for row in changed) < 100_000
    assert {row["source_file"] for row in rows} >= {"caf\\xe9.py", "new\nline.py"}
    assert broken(dataset) == []


def truncated_commit(repo, git):
    spoil(git, repo, "HEAD~4", None)


def commit_that_is_gone(repo, git):
    place(git, repo, "HEAD~4").unlink()


def folder_that_is_gone(repo, git):
    place(git, repo, "HEAD~4^{tree}").unlink()


def endless_name(repo, git):
    blob = put(git, repo, "blob", b"x = 1\n")
    inserted(repo, git, listed([(b"100644", b"a" * (24 << 20), blob)]))


def inserted(repo, git, tree):
    """A commit with a tree, and another that takes everything back."""
    head, before = git(repo, "rev-parse", "HEAD", "HEAD^{tree}").decode().split()
    odd = commit(git, repo, put(git, repo, "tree", tree), [head])
    git(repo, "update-ref", "refs/heads/main", commit(git, repo, before, [odd]))


@pytest.mark.parametrize("spoilt", [truncated_commit, commit_that_is_gone, folder_that_is_gone, endless_name])
def test_a_history_that_cannot_be_read_to_its_end_is_told_in_a_line(repo_maker, git, built, spoilt):
    repo = repo_maker(evolving(30, 8))
    loosen(git, repo)
    spoilt(repo, git)
    said, dataset = built(repo)
    [line] = [line for line in said if line.startswith("the history ")]
    assert "cannot be read to its end" in line or "is read down to commit" in line
    assert len(said) == 10
    assert dataset.metadata["base_sequences"] > 0
    assert broken(dataset) == []


@pytest.mark.parametrize(
    ("how", "reason"),
    [("--depth=3", "shallow"), ("--depth=1", "shallow"), ("--filter=blob:none", "missing"), ("--filter=tree:0", "")],
)
def test_a_clone_that_has_not_all(repo_maker, git, built, how, reason):
    repo = repo_maker(evolving(30, 8))
    git(repo, "config", "uploadpack.allowFilter", "true")
    git(repo.parent, "clone", "--quiet", how, repo.as_uri(), "clone")
    said, dataset = built(repo.parent / "clone")
    dropped = dataset.manifest["steps"][0]["dropped"]
    assert dropped[reason] > 40 if reason else not dropped
    assert len(said) == (9 if reason == "missing" else 10)
    assert dataset.metadata["base_sequences"] > 0
    assert broken(dataset) == []
