"""What later commits added, as text that a person typed."""

from __future__ import annotations

import pytest

from git_starcoder.git.objects import Repo
from git_starcoder.replay import typed_text
from git_starcoder.replay.typed_text import read_later_text

BLOCK = "".join(f"register_handler('event {n}', handle_event_{n}, priority={n})\n" for n in range(6))
START = {
    "app.py": "import os\n\ndef main():\n    return os.getcwd()\n\n# end of it\n",
    "other.py": BLOCK,
    "picture.bin": b"\0\1",
    "vendor/lib.js": "var x = 1;\n",
    "gone.py": "x = 1\n",
}
LATER = [
    {"app.py": "import os\nimport sys\n\ndef main(argument):\n    return os.getcwd()\n\n# end of it\n"},
    {
        "new.py": "unseen_value = compute(1)\n" + BLOCK,
        "picture.bin": b"\0\2",
        "vendor/lib.js": "var x = 2;\n",
        "gone.py": None,
    },
]


@pytest.fixture
def later(repo_maker):
    repo = Repo.open(repo_maker([START, *LATER]))
    return read_later_text(repo, Repo.open(repo.path, "HEAD~2"))


def test_each_run_of_added_lines_is_typed_between_the_new_file_and_the_old_one(later):
    first, second = later.commits
    one, two = first.hunks
    assert (one.path, one.language, one.before, one.text) == ("app.py", "python", "import os\n", "import sys\n")
    assert one.after == START["app.py"].removeprefix("import os\n")
    assert (two.before, two.text) == ("import os\nimport sys\n\n", "def main(argument):\n")
    assert two.after == "    return os.getcwd()\n\n# end of it\n"
    assert [hunk.text for hunk in second.hunks] == ["unseen_value = compute(1)\n"]  # the lines behind it are copied


def test_what_is_left_out_is_counted(later):
    assert later.skipped == {"lines moved": 6, "not read": 2, "deleted": 1}
    assert "picture.bin" not in later.start
    assert "vendor/lib.js" not in later.start


def test_the_files_after_each_commit_are_known(later):
    files = dict(later.start)
    for commit in later.commits:
        files = {path: text for path, text in {**files, **commit.files}.items() if text is not None}
    assert files == {
        "app.py": LATER[0]["app.py"],
        "other.py": BLOCK,
        "new.py": LATER[1]["new.py"],
    }


def test_a_few_hunks_are_drawn_and_all_if_there_are_few(later):
    all_hunks = [hunk for commit in later.commits for hunk in commit.hunks]
    assert [hunk for commit in later.draw(10_000).commits for hunk in commit.hunks] == all_hunks
    few = [hunk for commit in later.draw(1).commits for hunk in commit.hunks]
    assert len(few) == 1
    assert few[0] in all_hunks
    assert [commit.files for commit in later.draw(1).commits] == [commit.files for commit in later.commits]


def test_a_long_run_of_lines_is_typed_to_the_end_of_a_line(repo_maker, monkeypatch):
    monkeypatch.setattr(typed_text, "MAX_HUNK_CHARACTERS", 30)
    lines = "".join(f"unlike_number_{n} = {n * 7919}\n" for n in range(9))
    repo = Repo.open(repo_maker([{"a.py": "x = 1\n"}, {"b.py": lines}]))
    [commit] = read_later_text(repo, Repo.open(repo.path, "HEAD~1")).commits
    assert [hunk.text for hunk in commit.hunks] == ["unlike_number_0 = 0\n"]


def test_a_merge_is_one_commit(repo_maker, git):
    path = repo_maker([{"a.py": "x = 1\n"}])
    git(path, "checkout", "--quiet", "-b", "side")
    (path / "side.py").write_text("sideways = 5\n")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "-m", "side")
    git(path, "checkout", "--quiet", "main")
    (path / "b.py").write_text("mainly = 6\n")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "-m", "main")
    git(path, "merge", "--quiet", "--no-edit", "side")
    repo = Repo.open(path)
    later = read_later_text(repo, Repo.open(path, "HEAD~2"))
    assert [[hunk.text for hunk in commit.hunks] for commit in later.commits] == [["mainly = 6\n"], ["sideways = 5\n"]]
