"""A repository that lacks something is no reason to call a dataset broken: what cannot be compared is skipped, and said."""

from __future__ import annotations

import json
import shutil

import pytest

from git_starcoder.checks import check, open_source_repository
from git_starcoder.cli import main
from git_starcoder.dataset import Dataset
from git_starcoder.errors import RepositoryError
from git_starcoder.git.objects import Repo
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from spoilings import Folder
from toy import code_base, evolving

RECIPE = Recipe.load(
    "elite",
    (
        "window.vocab_size=600", "window.size=[64, 128]", "augment.git_diff=1.0", "augment.temporal_context=1.0",
        "augment.cross_file_context=1.0", "dedup.near=null",
    ),
)  # fmt: skip
FULL = {"source", "origins", "commits", "ages", "dependency_graph", "held_out_lines", "signatures", "metadata"}
"""The checks that go back to the repository."""


@pytest.fixture(scope="module")
def repo(repo_maker, git):
    """A history with renames, edits and a merge, whose side was committed between the others."""
    path = repo_maker(
        [*evolving(14, 8), {"kit/part_3.py": None, "kit/moved_3.py": "def moved(size):\n    return size\n" * 9}]
    )
    git(path, "branch", "side", "HEAD~5")
    git(path, "worktree", "add", "-q", str(path.parent / "side"), "side")
    (path.parent / "side/on_the_side.py").write_text("def aside(depth):\n    return depth + 51\n" * 5)
    git(path.parent / "side", "add", "-A")
    git(path.parent / "side", "commit", "-qm", "aside", env={"GIT_COMMITTER_DATE": "1700500000 +0000"})
    git(path, "merge", "-q", "--no-ff", "-m", "both", "side", env={"GIT_COMMITTER_DATE": "1701000000 +0000"})
    text = (path / "kit/moved_3.py").read_text()
    git(path, "mv", "kit/moved_3.py", "kit/again_3.py")
    (path / "kit/again_3.py").write_text(text + "def more(size):\n    return size * 97\n")
    git(path, "add", "-A")
    git(path, "commit", "-qm", "moved and edited", env={"GIT_COMMITTER_DATE": "1701100000 +0000"})
    git(path, "config", "uploadpack.allowFilter", "true")
    git(path, "config", "uploadpack.allowAnySHA1InWant", "true")
    return path


def cloned(*how):
    def make(git, repo, to):
        git(to.parent, "clone", "--quiet", *how, repo.as_uri(), to.name)

    return make


def later(git, repo, to):
    """A shallow clone of the repository as it is some commits later."""
    there = to.parent / "there"
    git(to.parent, "clone", "--quiet", repo.as_uri(), "there")
    (there / "later.py").write_text("later = 1\n")
    git(there, "add", "-A")
    git(there, "commit", "-qm", "later")
    git(to.parent, "clone", "--quiet", "--depth=1", there.as_uri(), to.name)


def other(git, repo, to):  # noqa: ARG001
    git(to.parent, "init", "--quiet", to.name)
    (to / "a.py").write_text("x = 1\n")
    git(to, "add", "-A")
    git(to, "commit", "-qm", "another repository")


def nothing(git, repo, to):  # noqa: ARG001
    git(to.parent, "init", "--quiet", to.name)


def other_format(git, repo, to):  # noqa: ARG001
    git(to.parent, "init", "--quiet", "--object-format=sha256", to.name)
    (to / "a.py").write_text("x = 1\n")
    git(to, "add", "-A")
    git(to, "commit", "-qm", "another repository")


def grafted(git, repo, to):
    cloned()(git, repo, to)
    newest = git(to, "rev-parse", "HEAD").decode()
    (to / ".git/info").mkdir(exist_ok=True)
    (to / ".git/info/grafts").write_text(newest)


def replaced(git, repo, to):
    cloned()(git, repo, to)
    git(to, "replace", "HEAD", "HEAD~3")


def lost_alternate(git, repo, to):
    shutil.copytree(repo, to.parent / "lender")
    git(to.parent, "clone", "--quiet", "--shared", "lender", to.name)
    shutil.rmtree(to.parent / "lender")


def odd_alternates(git, repo, to):
    cloned()(git, repo, to)
    (to / ".git/objects/info/alternates").write_bytes(b"/nowhere\n\xff\xfe\n\0\nrel\x85ative\n# comment\n")


def lacking(*revisions):
    """A clone in which some objects are gone, which nobody says."""

    def make(git, repo, to):
        cloned("--no-local")(git, repo, to)
        for pack in (to / ".git/objects/pack").glob("*.pack"):
            data = pack.read_bytes()
            for file in (to / ".git/objects/pack").glob(f"{pack.stem}.*"):
                file.unlink()
            git(to, "unpack-objects", "-q", stdin=data)
        for revision in revisions:
            name = git(to, "rev-parse", revision).decode().strip()
            (to / ".git/objects" / name[:2] / name[2:]).unlink()

    return make


WAYS = {
    "depth 1": cloned("--depth=1"),
    "depth 2": cloned("--depth=2"),
    "depth 4": cloned("--depth=4"),
    "since": cloned("--shallow-since=1700400000"),
    "bare shallow": cloned("--depth=3", "--bare"),
    "no blobs": cloned("--filter=blob:none"),
    "no blobs, bare": cloned("--filter=blob:none", "--bare"),
    "small blobs": cloned("--filter=blob:limit=400"),
    "no trees": cloned("--filter=tree:0"),
    "no trees, bare": cloned("--filter=tree:0", "--bare"),
    "shallow, no blobs": cloned("--depth=3", "--filter=blob:none"),
    "grafted": grafted,
    "replaced": replaced,
    "odd alternates": odd_alternates,
    "no old commit": lacking("HEAD~4"),
    "no old folder": lacking("HEAD~4^{tree}"),
    "no old blob": lacking("HEAD~1:kit/moved_3.py"),
    "no folder": lacking("HEAD:kit"),
    "no blob": lacking("HEAD:kit/again_3.py"),
    "no tree": lacking("HEAD^{tree}"),
}
WITHOUT_THE_COMMIT = {
    "later": later,
    "other": other,
    "other format": other_format,
    "nothing": nothing,
    "lost alternate": lost_alternate,
    "no commit": lacking("HEAD"),
}
UNBUILDABLE = {"no blobs, bare", "no trees, bare", "no tree"}


@pytest.fixture(scope="module")
def clones(git, repo, tmp_path_factory):
    """A clone of each kind, made once."""
    made = {}

    def clone(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("cloned") / "clone"
            (WAYS | WITHOUT_THE_COMMIT)[kind](git, repo, made[kind])
        return made[kind]

    return clone


@pytest.fixture(scope="module")
def full(repo, tmp_path_factory):
    return build(Repo.open(repo), RECIPE, tmp_path_factory.mktemp("full") / "out")


def outcomes(dataset, source):
    return {each.check: each for each in check(dataset, source)}


def broken(dataset, source):
    """What is wrong, but for what is also wrong without any repository: so few files cannot promise all."""
    before = {name for name, each in outcomes(dataset, None).items() if each.finding_count}
    return {
        name: each.findings
        for name, each in outcomes(dataset, source).items()
        if each.finding_count and name not in before
    }


def test_with_the_whole_repository_everything_is_compared(full, repo):
    told = outcomes(full, open_source_repository(full, repo))
    assert not {name for name in FULL if told[name].skipped}
    assert "not " not in "".join(told[name].figure for name in FULL)
    assert broken(full, open_source_repository(full, repo)) == {}


@pytest.mark.parametrize("kind", WAYS)
def test_a_dataset_of_the_whole_repository_is_not_broken_in_a_part_of_it(full, clones, kind):
    source = open_source_repository(full, clones(kind))
    assert not isinstance(source, str)
    assert broken(full, source) == {}


@pytest.mark.parametrize("kind", sorted(WAYS.keys() - UNBUILDABLE - {"grafted", "replaced", "odd alternates"}))
def test_a_dataset_of_a_part_is_not_broken_in_the_whole(repo, clones, tmp_path, kind):
    dataset = build(Repo.open(clones(kind)), RECIPE, tmp_path / "out")
    for source in (clones(kind), repo, clones("depth 2")):
        assert broken(dataset, open_source_repository(dataset, source)) == {}


@pytest.mark.parametrize("kind", sorted(UNBUILDABLE))
def test_of_nothing_no_dataset_is_built_and_that_is_one_clear_line(clones, tmp_path, capsys, kind):
    assert main(["build", str(clones(kind)), "-o", str(tmp_path / "out"), "-q", "-j", "1"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(RepositoryError):
        build(Repo.open(clones(kind)), Recipe.load("effectiveness"), tmp_path / "out")


@pytest.mark.parametrize("kind", WITHOUT_THE_COMMIT)
def test_without_the_commit_what_needs_it_is_skipped_for_that_reason(full, clones, capsys, kind):
    code = main(["check", str(full.folder), "--repo", str(clones(kind)), "--json"])
    told = capsys.readouterr()
    answer = {each["check"]: each for each in json.loads(told.out)["checks"]}
    assert code == main(["check", str(full.folder), "-q"])
    capsys.readouterr()
    assert told.err.startswith("not compared with the repository: the repository does not have commit ")
    assert answer["source"]["result"] == "skipped"
    for name in ("source", "origins"):
        assert full.manifest["commit"][:12] in answer[name]["figure"]


@pytest.mark.parametrize("what", ["nowhere", "no repository"])
def test_what_is_no_repository_is_an_error(full, tmp_path, capsys, what):
    (tmp_path / "no repository").mkdir()
    assert main(["check", str(full.folder), "--repo", str(tmp_path / what)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("kind", "check", "reason"),
    [
        ("depth 2", "commits", "the clone is shallow"),
        ("depth 2", "ages", "the clone is shallow"),
        ("depth 2", "origins", "the clone is shallow"),
        ("depth 2", "source", "the clone is shallow"),
        ("no old commit", "commits", "the history cannot be read to its end"),
        ("no trees", "source", "the history cannot be read to its end"),
        ("no blobs", "source", "blobs are not in this copy"),
        ("no trees, bare", "source", "the repository does not have the files of the commit"),
        ("no trees, bare", "origins", "the repository does not have the files of the commit"),
        ("no blob", "held_out_lines", "files of the repository being missing"),
    ],
)
def test_what_is_not_compared_is_said(full, clones, kind, check, reason):
    assert reason in outcomes(full, open_source_repository(full, clones(kind)))[check].figure


def test_what_a_shallow_clone_knows_is_compared(full, clones, tmp_path):
    folder = Folder(shutil.copytree(full.folder, tmp_path / "spoiled"))
    rows = folder.rows()
    for row in rows:
        if row["metadata"]["augmentation_type"] == "base":
            row["metadata"]["blob"] = "0" * 40
    folder.write(rows)
    folder.sign()
    spoiled = Dataset.open(folder.path)
    assert {"origins"} <= broken(spoiled, open_source_repository(spoiled, clones("depth 1"))).keys()


def test_a_commit_that_is_nowhere_is_found_in_a_whole_repository(full, repo, tmp_path):
    folder = Folder(shutil.copytree(full.folder, tmp_path / "spoiled"))
    rows = folder.rows()
    for row in rows:
        row["metadata"]["commit"] = row["metadata"]["commit"][::-1]
    folder.write(rows)
    folder.sign()
    spoiled = Dataset.open(folder.path)
    told = outcomes(spoiled, open_source_repository(spoiled, repo))
    assert told["origins"].finding_count
    assert told["ages"].finding_count
    assert "is not in the history" in "".join(finding.what for finding in told["commits"].findings)


def test_a_later_head_of_the_whole_repository_has_the_commit(full, repo, git, tmp_path):
    git(tmp_path, "clone", "--quiet", repo.as_uri(), "later")
    (tmp_path / "later/later.py").write_text("later = 1\n")
    git(tmp_path / "later", "add", "-A")
    git(tmp_path / "later", "commit", "-qm", "later")
    assert broken(full, open_source_repository(full, tmp_path / "later")) == {}
    figure = outcomes(full, Repo.open(tmp_path / "later"))["source"].figure
    assert "not where the dataset was made" in figure


@pytest.mark.parametrize("revision", ["HEAD", "HEAD~1"])
def test_a_repository_that_was_repaired_is_built_again(git, repo_maker, tmp_path, revision):
    """`HEAD~1` is the commit that the tokenizer is learned from. Nothing but its content differs from `HEAD`."""
    code = code_base(4)
    repo = repo_maker(
        [
            code,
            *({"count.txt": f"{number}\n"} for number in range(14)),
            {path: f"# {text}" for path, text in code.items()},
        ]
    )
    blobs = [git(repo, "rev-parse", f"{revision}:{path}").decode().strip() for path in code]
    hidden = [repo / ".git/objects" / blob[:2] / blob[2:] for blob in (blobs[:1] if revision == "HEAD" else blobs)]
    recipe = Recipe.load("baseline", ("window.vocab_size=600", "window.size=64", "window.tokenizer=learn"))
    for path in hidden:
        path.rename(path.with_suffix(".hidden"))
    lacking = build(Repo.open(repo), recipe, tmp_path / "out")
    assert lacking.manifest["faults"]
    assert build(Repo.open(repo), recipe, tmp_path / "out").digest == lacking.digest
    for path in hidden:
        path.with_suffix(".hidden").rename(path)
    whole = build(Repo.open(repo), recipe, tmp_path / "out")
    assert "faults" not in whole.manifest
    assert whole.digest == build(Repo.open(repo), recipe, tmp_path / "new").digest != lacking.digest


def test_a_clone_that_was_made_whole_is_built_again(git, repo, tmp_path):
    git(tmp_path, "clone", "--quiet", "--depth=1", repo.as_uri(), "clone")
    recipe = Recipe.load("effectiveness", ("window.vocab_size=600", "window.size=64"))
    flat = build(Repo.open(tmp_path / "clone"), recipe, tmp_path / "out")
    assert flat.manifest["shallow"]
    git(tmp_path / "clone", "fetch", "--quiet", "--unshallow")
    assert not build(Repo.open(tmp_path / "clone"), recipe, tmp_path / "out").manifest["shallow"]
