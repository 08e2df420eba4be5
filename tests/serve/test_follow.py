"""What is known of a repository: what is on disk and open now, and nothing that is ignored or secret."""

from __future__ import annotations

import os
import shutil
import time

import numpy as np
import pytest

import bases
from git_starcoder.errors import RepositoryError
from git_starcoder.memory.repository_memory import RepositoryMemory
from git_starcoder.model.context import ContextComposer
from git_starcoder.serve.disk import WorkTree
from git_starcoder.serve.follow import Follower
from serving import FILES, replace_file, wait_until
from shell import HUNG

SECRET = 'password = "hJ8s-2kPq9!xZw7Lm4Tb"\ntoken = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"\n'


@pytest.fixture(scope="module")
def tokenizer():
    return bases.learn([text.encode() for text in FILES.values()], 500)


@pytest.fixture
def tree(repo_maker):
    return repo_maker({**FILES, ".gitignore": "ignored/\n*.log\n"})


@pytest.fixture
def follower(tokenizer, tree):
    memory = RepositoryMemory.build([], "repository", tokenizer)
    composer = ContextComposer.build([], "repository", tokenizer)
    follower = Follower(tokenizer, memory, composer, tree)
    assert follower.wait(HUNG)
    yield follower
    follower.close()
    assert not follower.problem


def known(follower, text, path="", open_texts=None):
    """Whether the memory has a text, and whether the composer does: the answer must be the same."""
    memory, composer = follower.knowledge(path, open_texts or {})
    tokenizer = follower._tokenizer
    texts = (tokenizer.decode(np.array(tokens)).decode() for tokens in (memory.index.tokens, composer.tokens))
    in_memory, in_context = (text in each for each in texts)
    if not path:
        assert in_memory == in_context
    return in_memory


def test_what_is_on_disk_at_the_beginning_is_known(follower):
    assert known(follower, FILES["src/file_0.py"])
    assert follower.file_count == len(FILES) + 1


def test_a_saved_file_is_known_and_a_deleted_one_forgotten(follower, tree):
    replace_file(tree / "src" / "file_0.py", "def brand_new_name(): pass\n")
    wait_until(lambda: known(follower, "brand_new_name"))
    assert not known(follower, FILES["src/file_0.py"])
    (tree / "new" / "folder").mkdir(parents=True)
    (tree / "new" / "folder" / "file.py").write_text("another_new_name = 1\n")
    wait_until(lambda: known(follower, "another_new_name"))
    (tree / "new" / "folder" / "file.py").unlink()
    wait_until(lambda: not known(follower, "another_new_name"))
    assert known(follower, "brand_new_name")


def test_a_branch_is_followed_there_and_back(follower, tree, git):
    git(tree, "checkout", "-q", "-b", "other")
    (tree / "src" / "file_1.py").write_text("def only_on_the_other_branch(): pass\n")
    (tree / "src" / "added.py").write_text("def also_only_there(): pass\n")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "other")
    wait_until(lambda: known(follower, "only_on_the_other_branch") and known(follower, "also_only_there"))
    git(tree, "checkout", "-q", "main")
    wait_until(lambda: not known(follower, "only_on_the_other_branch") and not known(follower, "also_only_there"))
    assert known(follower, FILES["src/file_1.py"])
    git(tree, "merge", "-q", "other")  # as a pull does
    wait_until(lambda: known(follower, "only_on_the_other_branch") and known(follower, "also_only_there"))


def test_a_name_that_is_not_utf_8_does_not_end_the_following(follower, tree):
    with open(os.fsencode(tree / "src") + b"/\xff.py", "wb") as file:
        file.write(b"x = 1\n")
    time.sleep(0.5)  # the watcher sees it, and ends
    replace_file(tree / "src" / "file_1.py", "def name_after_it(): pass\n")
    wait_until(lambda: known(follower, "name_after_it"))


def test_a_file_is_followed_while_a_link_to_its_folder_comes_and_goes(follower, tree):
    for number, change in enumerate((lambda link: link.symlink_to("src"), os.remove)):
        change(tree / "link")
        (tree / f"seen_{number}.py").write_text(f"later_than_link_{number} = 1\n")
        wait_until(lambda name=f"later_than_link_{number}": known(follower, name))
        (tree / "src" / "file_1.py").write_text(f"name_beside_link_{number} = 1\n")
        wait_until(lambda name=f"name_beside_link_{number}": known(follower, name))


def test_ignored_and_secret_files_are_never_known(follower, tree):
    (tree / "ignored").mkdir()
    (tree / "ignored" / "file.py").write_text("ignored_name = 1\n")
    (tree / "noise.log").write_text("ignored_name = 2\n")
    (tree / "settings.py").write_text(f"secret_beside = 1\n{SECRET}")
    (tree / ".env").write_text("secret_beside=1\n")
    (tree / "link.py").symlink_to("/etc/passwd")
    (tree / "package-lock.json").write_text('{"secret_beside": 1}\n')
    os.mkfifo(tree / "pipe.py")
    (tree / "last.py").write_text("the_last_name = 1\n")
    wait_until(lambda: known(follower, "the_last_name"))
    assert not known(follower, "ignored_name")
    assert not known(follower, "secret_beside")
    assert not known(follower, "root:")


def test_a_file_that_becomes_ignored_is_forgotten(follower, tree):
    (tree / "draft.py").write_text("draft_name = 1\n")
    wait_until(lambda: known(follower, "draft_name"))
    (tree / ".gitignore").write_text("draft.py\n")
    wait_until(lambda: not known(follower, "draft_name"))


def test_a_file_with_a_secret_is_forgotten_when_the_secret_comes(follower, tree):
    (tree / "settings.py").write_text("name_of_a_setting = 1\n")
    wait_until(lambda: known(follower, "name_of_a_setting"))
    (tree / "settings.py").write_text(f"name_of_a_setting = 1\n{SECRET}")
    wait_until(lambda: not known(follower, "name_of_a_setting"))


def test_unsaved_text_counts_in_place_of_the_saved_one(follower, tree):
    path = "src/file_2.py"
    assert known(follower, "unsaved_name", open_texts={path: "unsaved_name = 1\n"})
    assert not known(follower, FILES[path], open_texts={path: "unsaved_name = 1\n"})
    assert not known(follower, "unsaved_name")
    assert known(follower, FILES[path])
    assert known(follower, "unsaved_name", open_texts={"not/yet/saved.py": "unsaved_name = 1\n"})
    assert (tree / path).read_text() == FILES[path]


@pytest.mark.parametrize(
    ("path", "text"),
    [("ignored/a.py", "open_name = 1\n"), ("x.log", "open_name = 1\n"), (".env", "open_name=1\n"),
     ("a.py", f"open_name = 1\n{SECRET}"), ("../outside.py", "open_name = 1\n"), ("/etc/open.py", "open_name = 1\n"), (".git/a.py", "open_name = 1\n"), ("", "open_name = 1\n"),
     ("src/file_1.py", f"open_name = 1\n{SECRET}")],
)  # fmt: skip
def test_unsaved_text_of_ignored_and_secret_files_is_not_known(follower, path, text):
    assert not known(follower, "open_name", open_texts={path: text})


def test_the_file_that_is_edited_is_left_out_of_the_memory(follower):
    path = "src/file_3.py"
    assert known(follower, FILES[path])
    assert not known(follower, FILES[path], path)
    assert known(follower, FILES["src/file_4.py"], path)
    assert known(follower, FILES[path], "src/file_4.py")


def test_an_updated_index_is_the_one_that_is_made_anew(follower, tree, tokenizer):
    (tree / "src" / "file_5.py").write_text("x = 5\n")
    (tree / "src" / "file_6.py").unlink()
    wait_until(lambda: known(follower, "x = 5") and not known(follower, FILES["src/file_6.py"]))
    memory, _ = follower.knowledge("", {})
    texts = [(tree / path).read_text() for path in (*FILES, ".gitignore") if (tree / path).exists()]
    documents = [np.append(tokenizer.encode([text.encode()])[0], tokenizer.end_id) for text in texts]
    anew = RepositoryMemory.build(documents, "repository", tokenizer).index
    for name in ("tokens", "places", "next_tokens", "shared", "digests", "lengths"):
        assert np.array_equal(getattr(memory.index, name), getattr(anew, name))


def test_the_file_of_a_text_is_found(follower, tokenizer):
    path = "src/file_3.py"
    text = FILES[path]

    def find(before, after):
        parts = (tokenizer.encode([part.encode()])[0].astype(np.int64) for part in (before, after))
        return follower.find_path(*parts)

    follower.knowledge("", {})
    assert find(text[:400], text[400:]) == path
    assert find(text[:400] + "new_name = ", "\n" + text[400:]) == path
    follower.knowledge(path, {})  # the memory leaves it out
    assert find(text[:400] + "new_name = ", "\n" + text[400:]) == path
    assert find(FILES["src/file_4.py"][:300], FILES["src/file_4.py"][300:]) == "src/file_4.py"
    assert find("import os\n", "") == ""
    assert find("something that stands in none of the files, of more than some tokens\n" * 9, "") == ""


def test_the_users_own_ignore_file_counts(tree, monkeypatch, tmp_path):
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / "ignore").write_text("*.mine\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tree / "a.mine").write_text("x\n")
    (tree / "b.other").write_text("x\n")
    files = WorkTree(tree).list_files()
    assert "b.other" in files
    assert "a.mine" not in files
    assert WorkTree(tree).ignores("c.mine")


def test_every_configuration_names_the_users_own_ignore_file(tree, monkeypatch, tmp_path, git):
    (tmp_path / "conditional").write_text(f"[core]\n\texcludesFile = {tmp_path}/mine\n")
    (tmp_path / "global").write_text(f'[includeIf "gitdir:{tree}/"]\n\tpath = {tmp_path}/conditional\n')
    (tmp_path / "mine").write_text("*.mine\n")
    (tree / "ours").write_text("*.ours\n")
    (tree / "a.mine").write_text("x\n")
    (tree / "a.ours").write_text("x\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "global"))
    assert WorkTree(tree).list_files().isdisjoint({"a.mine"})
    assert WorkTree(tree).ignores("b.mine")
    git(tree, "config", "core.excludesFile", "ours")  # from the top of the work tree; it counts before the global one
    assert WorkTree(tree / "src").list_files() & {"a.mine", "a.ours"} == {"a.mine"}
    git(tree, "config", "core.excludesFile", "~no-such-user/ignore")
    with pytest.raises(RepositoryError, match="failed to expand user dir"):
        WorkTree(tree)


def test_an_ignore_file_on_which_git_would_wait_counts_as_empty(tree, git):
    os.mkfifo(tree / "pipe")
    git(tree, "config", "core.excludesFile", "pipe")
    files = WorkTree(tree)
    assert "src/file_0.py" in files.list_files()
    assert not files.ignores("src/file_0.py")
    (tree / "pipe").unlink()
    (tree / "pipe").write_text("*.later\n")
    assert files.ignores("a.later")


def test_git_runs_nothing_of_the_repository(tree, tmp_path, git):
    ran = tmp_path / "ran"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.editor", "diff.external", "core.sshCommand"):
        git(tree, "config", key, str(script))
    git(tree, "config", "filter.run.clean", str(script))
    (tree / ".gitattributes").write_text("*.py filter=run\n")
    (tree / "src" / "file_0.py").write_text("changed = 1\n")
    files = WorkTree(tree)
    assert "src/file_0.py" in files.list_files()
    assert not files.ignores("src/file_0.py")
    assert not ran.exists()


def test_a_folder_in_no_work_tree_is_an_error(tokenizer, tmp_path):
    with pytest.raises(RepositoryError, match="is not in a work tree"):
        Follower(tokenizer, RepositoryMemory.build([], "repository", tokenizer), None, tmp_path)


def test_without_a_folder_the_stored_memory_stays(tokenizer):
    document = np.array([11, 12, 13, tokenizer.end_id])
    memory = RepositoryMemory.build([document], "repository", tokenizer)
    follower = Follower(tokenizer, memory, None)
    assert follower.knowledge("a.py", {"b.py": "x = 1\n"}) == (memory, None)
    follower.close()


def test_a_repository_that_is_cloned_again_is_followed(follower, tree, repo_maker):
    other = repo_maker({"src/file_0.py": "def of_the_other_clone(): pass\n"})
    shutil.rmtree(tree)
    time.sleep(0.5)  # the thread sees that it is gone
    shutil.copytree(other, tree)
    wait_until(lambda: known(follower, "of_the_other_clone"))
    assert not known(follower, FILES["src/file_1.py"])
    replace_file(tree / "src" / "later.py", "a_name_of_later = 1\n")
    wait_until(lambda: known(follower, "a_name_of_later"))
