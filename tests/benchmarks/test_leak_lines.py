"""The judge of held-out lines: right where a test put the lines, and right about our gate, which it knows nothing of."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from git_starcoder.engine.local import LocalEngine
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.stages import history_gate as module

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "leak_lines.py"
END = 256
RECIPE = Recipe.load("elite", ("window.vocab_size=512", "window.size=[2048]"))


def line(*words):
    return f"let {'_'.join(map(str, words))} = the_value_of_it;\n"


def body(name, count=10):
    return "".join(line(name, number) for number in range(count))


def alphabet():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    signs = {byte: chr(byte) for byte in plain}
    signs |= {byte: chr(256 + at) for at, byte in enumerate(sorted(set(range(256)) - set(plain)))}
    return {signs[byte]: byte for byte in range(256)}


FILES = {f"{name}.rs": body(name) for name in "abcdefgh"} | {"notes.txt": body("notes")}


@pytest.fixture(scope="module")
def moving(repo_maker):
    """What is in files now was all in one file, which is no more, and then in files of other names."""
    old = {f"was_{path}": text for path, text in FILES.items()}
    return repo_maker([
        {"all.rs": "".join(FILES.values())},
        {"all.rs": None, **{path: text.replace("let", "const") for path, text in old.items()}},
        {**dict.fromkeys(old), **FILES},
    ])  # fmt: skip


class Made:
    """A dataset by hand: a token is a byte, and a row a text."""

    def __init__(self, folder, repo, git):
        self.folder, self.repo = folder, repo
        self.blob = {path: git(repo, "rev-parse", f"HEAD:{path}").decode().strip() for path in FILES}
        self.rows = {split: [] for split in ("train", "val", "test")}
        for path, text in FILES.items():
            self.add("test" if path in {"h.rs", "notes.txt"} else "train", text, source_file=path)
        (folder / "tokenizer").mkdir()
        said = {"decoder": {"type": "ByteLevel"}, "model": {"vocab": alphabet()}, "added_tokens": [{"id": END}]}
        (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(said))
        commit = git(repo, "rev-parse", "HEAD").decode().strip()
        (folder / "manifest.json").write_text(json.dumps({"commit": commit}))

    def add(self, split, text, head="", **about):
        path = about["source_file"]
        tokens = [*head.encode(), *[END] * bool(head), *text.encode()]
        about = {"augmentation_type": "base", "length": len(tokens), "context": len(head.encode()) + bool(head)} | about
        if about["augmentation_type"] == "git_diff":
            about["is_evolution"] = True
        else:
            about |= {"blob": self.blob[path], "language": "rust" if path.endswith(".rs") else "text"}
        self.rows[split].append({"tokens": [*tokens, *[END] * 9], "metadata": about})

    def judged(self, *options):
        for split, rows in self.rows.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (self.folder / f"training_data_{split}.jsonl").write_text(text)
        return judged(self.folder, self.repo, *options)


def judged(folder, repo, *options):
    command = [sys.executable, "-W", "error", str(SCRIPT), str(folder), str(repo), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[0])


@pytest.fixture
def made(tmp_path, moving, git):
    return Made(tmp_path, moving, git)


def test_a_clean_dataset_is_clean_and_commits_at_random_are_not(made):
    figures = made.judged("--seeds", "5")
    assert (figures["held_out_lines"], figures["files_only"], figures["ours"], figures["points"]) == (10, 0.0, 0.0, 0.0)
    assert figures["all_files"] == {"held_out_lines": 20, "files_only": 0.0, "ours": 0.0}
    assert figures["commits_walked"] == 3
    assert figures["commits"] == {"mean": 1.0, "deviation": 0.0}  # any two of the three: all.rs came and went
    assert figures["random_files"] == {"mean": 0.0, "deviation": 0.0}
    assert set(figures["beyond"].values()) == {0}


def test_the_floor_is_what_files_share(made):
    made.add("test", FILES["a.rs"], source_file="a.rs")  # the later row says where a file is: this one is learned from
    made.rows["train"] = [row for row in made.rows["train"] if row["metadata"]["source_file"] != "a.rs"]
    made.blob["b.rs"] = made.blob["a.rs"]
    made.add("train", FILES["a.rs"], source_file="b.rs")
    figures = made.judged()
    assert (figures["files_only"], figures["ours"], figures["points"]) == (0.5, 0.5, 0.0)


@pytest.mark.parametrize(("text", "head", "part"), [
    (line("h", 3), "", "learned"), (f"\t{line('h', 3)}more", "", "learned"), ("nothing", line("h", 3), "context"),
])  # fmt: skip
def test_a_line_is_found_in_any_part_of_a_change(made, text, head, part):
    made.add("train", text, head, source_file="gone.rs", augmentation_type="git_diff")
    figures = made.judged()
    assert (figures["files_only"], figures["ours"], figures["points"]) == (0.0, 0.1, 10.0)
    assert figures["beyond"][f"git_diff {part}"] == 1
    assert sum(figures["beyond"].values()) == 1


def test_short_lines_and_parts_of_lines_do_not_count(made):
    made.add("train", "}\nlet h_3 = the_v", source_file="gone.rs", augmentation_type="git_diff")
    assert made.judged()["ours"] == 0.0


def test_rows_that_are_known_by_heart_are_counted_where_they_come_from(made):
    three = "".join(line("moved", number) for number in range(3))
    made.add("val", three, head=FILES["a.rs"], source_file="h.rs", augmentation_type="git_diff")
    made.add("val", line("lone"), source_file="h.rs", augmentation_type="git_diff")  # too few lines to ask for
    kept = made.judged()["rows"]
    assert kept["git_diff"] == {"rows": 1, "known": 0.0, "known_without_changes": 0.0}
    made.add("train", three, source_file="gone.rs", augmentation_type="git_diff")
    assert made.judged()["rows"]["git_diff"] == {"rows": 1, "known": 1.0, "known_without_changes": 0.0}
    made.add("train", three, source_file="a.rs", augmentation_type="ast_based")
    assert made.judged()["rows"]["git_diff"] == {"rows": 1, "known": 1.0, "known_without_changes": 1.0}


def test_a_blob_that_is_missing_is_no_end(made, tmp_path, git):
    copy = tmp_path / "copy.git"
    git(tmp_path, "clone", "--quiet", "--bare", "--no-hardlinks", str(made.repo), str(copy))
    (copy / "objects" / made.blob["h.rs"][:2] / made.blob["h.rs"][2:]).unlink()
    made.repo = copy
    assert made.judged()["all_files"]["held_out_lines"] == 10  # those of the notes
    (copy / "HEAD").unlink()
    with pytest.raises(AssertionError, match="git cannot read"):
        made.judged()


@pytest.mark.parametrize("words", [True, False])
def test_lines_can_be_compared_by_their_words(words):
    spec = spec_from_file_location("leak_lines", SCRIPT)
    leak_lines = sys.modules["leak_lines"] = module_from_spec(spec)
    spec.loader.exec_module(leak_lines)
    lines = leak_lines.Lines(words)
    plain = lines.add(b"    if count > limit[0] or None: return value")
    for wrapped in (
        b'"    if count > limit[0] or None: return value\\n",',
        b"// if count > limit[0] or None: return value",
        b"<span>12 <b>if</b> count &gt; limit[0] or None: return value</span>",
    ):
        assert lines.find(wrapped).tolist() == (plain.tolist() if words else [])


@pytest.mark.parametrize("gate", [True, False])
def test_our_gate_holds_held_out_code_back_and_without_it_nothing_does(moving, tmp_path, monkeypatch, gate):
    if not gate:  # no line is secret
        monkeypatch.setattr(
            module.LineIndex, "without", lambda *_: module.LineIndex.from_lines(module.HashedLines.from_texts([]))
        )
    with LocalEngine(1) as engine:
        build(moving, RECIPE, tmp_path / "out", engine=engine)
    figures = judged(tmp_path / "out", moving)
    assert figures["held_out_lines"] > 0
    assert figures["commits"]["mean"] == 1.0
    assert figures["points"] == (0.0 if gate else 100.0)
    assert figures["beyond"].get("git_diff learned", 0) == (0 if gate else figures["all_files"]["held_out_lines"])


def test_the_judge_knows_nothing_of_the_builder():
    assert "git_starcoder" not in SCRIPT.read_text()
