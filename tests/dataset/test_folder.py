"""Publishing: whole or not at all, one at a time, and never over something that is not ours."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from git_starcoder.dataset import DATASET_SCHEMA, METADATA_FILE, Dataset, publish_dataset
from git_starcoder.errors import DatasetError, OutputError
from git_starcoder.output.contents import describe_files


def fill(folder, fingerprint="f1", text="row"):
    (folder / "data").write_text(text)
    (folder / METADATA_FILE).write_text("{}")
    manifest = {"schema": DATASET_SCHEMA, "fingerprint": fingerprint, "digest": "d", "files": describe_files(folder)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def leftovers(out):
    return [entry.name for entry in out.parent.iterdir() if entry != out]


def test_appears_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    with publish_dataset(out, "f1") as target:
        fill(target.folder)
        assert not out.exists()
    assert (out / "data").read_text() == "row"
    assert leftovers(out) == []
    assert Dataset.open(out).manifest["fingerprint"] == "f1"


def test_an_error_leaves_nothing(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), publish_dataset(out, "f1") as target:
        fill(target.folder)
        raise KeyboardInterrupt
    assert not out.exists()
    assert leftovers(out) == []


def test_an_error_keeps_what_was_there(tmp_path):
    out = tmp_path / "out"
    with publish_dataset(out, "f1") as target:
        fill(target.folder)
    with pytest.raises(ZeroDivisionError), publish_dataset(out, "f2") as target:
        fill(target.folder, "f2", "other")
        raise ZeroDivisionError
    assert (out / "data").read_text() == "row"


def test_same_fingerprint_is_up_to_date_and_another_replaces(tmp_path):
    out = tmp_path / "out"
    with publish_dataset(out, "f1") as target:
        fill(target.folder)
    with publish_dataset(out, "f1") as target:
        assert target.up_to_date is not None
    with publish_dataset(out, "f1", force=True) as target:
        assert target.up_to_date is None
        fill(target.folder, text="again")
    assert (out / "data").read_text() == "again"
    with publish_dataset(out, "f2") as target:
        assert target.up_to_date is None
        fill(target.folder, "f2", "other")
    assert (out / "data").read_text() == "other"
    assert leftovers(out) == []


def test_a_truncated_file_is_not_up_to_date(tmp_path):
    out = tmp_path / "out"
    with publish_dataset(out, "f1") as target:
        fill(target.folder)
    (out / "data").write_text("")
    with publish_dataset(out, "f1") as target:
        assert target.up_to_date is None
        fill(target.folder)
    assert (out / "data").read_text() == "row"


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_something_of_the_users_is_never_touched(tmp_path, kind):
    out = tmp_path / "out"
    match kind:
        case "file":
            out.write_text("mine")
        case "folder":
            out.mkdir()
            (out / "thesis.tex").write_text("mine")
        case _:
            out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="not a git-starcoder dataset"), publish_dataset(out, "f1", force=True):
        raise AssertionError("the build began")
    assert os.path.lexists(out)
    assert leftovers(out) == []


def test_an_empty_folder_is_used(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with publish_dataset(out, "f1") as target:
        fill(target.folder)
    assert (out / "data").read_text() == "row"


def test_two_builds_of_one_folder_are_kept_apart(tmp_path):
    out = tmp_path / "out"
    code = f"from pathlib import Path; from git_starcoder.dataset import publish_dataset\nwith publish_dataset(Path({str(out)!r}), 'f1'): pass"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with publish_dataset(out, "f1") as target:
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert "another build is writing" in other.stderr
        fill(target.folder)
    assert (out / "data").exists()


def test_what_a_killed_build_left_is_cleared(tmp_path):
    out = tmp_path / "out"
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "half").write_text("half")
    with publish_dataset(out, "f1") as target:
        assert not (target.folder / "half").exists()
        fill(target.folder)
    assert leftovers(out) == []


def test_killed_between_the_renames_the_old_dataset_comes_back(tmp_path):
    out = tmp_path / "out"
    with publish_dataset(out, "f1") as target:
        fill(target.folder)
    out.rename(tmp_path / ".out.old")
    with publish_dataset(out, "f1") as target:
        assert target.up_to_date is not None
    assert (out / "data").read_text() == "row"


def test_a_hidden_folder_of_the_users_is_not_taken_for_an_old_dataset(tmp_path):
    out = tmp_path / "out"
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="not a git-starcoder dataset"), publish_dataset(out, "f1"):
        raise AssertionError("the build began")
    assert leftovers(out) == [".out.old"]


def test_a_full_disk_is_one_clear_line(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="No space left on device"), publish_dataset(out, "f1"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert leftovers(out) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda out: (out / "manifest.json").unlink(), "not a finished dataset"),
        (lambda out: (out / "manifest.json").write_text("{"), "damaged"),
        (lambda out: (out / "manifest.json").write_text("[]"), "damaged"),
        (lambda out: (out / "manifest.json").write_text("{}"), "another format"),
        (lambda out: (out / METADATA_FILE).unlink(), "not a finished dataset"),
    ],
)
def test_opening_what_is_no_dataset(tmp_path, spoil, message):
    out = tmp_path / "out"
    with publish_dataset(out, "f1") as target:
        fill(target.folder)
    spoil(out)
    with pytest.raises(DatasetError, match=message):
        Dataset.open(out)


def test_a_line_that_is_not_a_row(tmp_path):
    out = tmp_path / "out"
    with publish_dataset(out, "f1") as target:
        fill(target.folder)
        (target.folder / "training_data_val.jsonl").write_text('{"tokens":[1],"metadata":{}}\n{"tokens":[1]\n')
    rows = Dataset.open(out).rows("val")
    assert next(rows).tokens == [1]
    with pytest.raises(DatasetError, match="line 2"):
        next(rows)
    with pytest.raises(DatasetError, match="cannot be read"):
        next(Dataset.open(out).rows("train"))
