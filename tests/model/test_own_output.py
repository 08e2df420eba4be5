"""What a training writes is known as output of ours wherever it is committed."""

import json

import pytest

from finished import toy as toy_dataset
from git_starcoder.model import architecture, checkpoint
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.training import train
from git_starcoder.output.contents import describe_files
from git_starcoder.parse.own_output import find_companions, recognise_own_output

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            architecture.MODEL_SIZES,
            "toy",
            {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 1},
        )
        train(toy_dataset(folder / "dataset"), folder / "model", TrainConfig(size="toy", steps=2, tensorboard=True))
    (folder / "model" / "scores.json").write_text('{"schema": "git-starcoder/scores/1"}')
    return folder / "model"


def unknown(folder, without=()):
    """The text files of a folder that are neither recognised nor in the company of one that is."""
    files = {f"some/where/{path.relative_to(folder)}": path for path in folder.rglob("*") if path.is_file()}
    files = {name: path for name, path in files.items() if path.name not in without}
    own = {name: said for name, path in files.items() if (said := recognise_own_output(path.read_bytes()))}
    return {*files} - {*own} - find_companions(own, [(name, path.stat().st_size) for name, path in files.items()])


def test_a_model_lists_its_files(model):
    said = json.loads((model / "training.json").read_text())["files"]
    found = describe_files(model)
    assert said == {name: found[name] for name in found.keys() - {"training.json", "scores.json"}}
    assert {"config.json", "model.safetensors", "training.yaml", "metrics.jsonl"} <= said.keys()


def test_every_file_of_a_model_is_known(model):
    assert unknown(model) == set()
    (model / "mine.txt").write_text("mine")
    assert unknown(model) == {"some/where/mine.txt"}
    (model / "mine.txt").unlink()


def test_without_its_record_a_model_is_not_known(model):
    assert "some/where/config.json" in unknown(model, without=("training.json",))


def test_every_file_of_a_checkpoint_is_known(tmp_path):
    torch = pytest.importorskip("torch")
    with checkpoint.locked_checkpoint_folder(tmp_path / "model", fresh=False) as folder:
        checkpoint.save_checkpoint(
            folder, checkpoint.Checkpoint(3, {"weights": {"one": torch.ones(3)}}, {"seconds": 1})
        )
        (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    assert unknown(folder) == set()


def test_a_training_keeps_files_of_the_user(tmp_path):
    torch = pytest.importorskip("torch")
    out = tmp_path / "model"
    with checkpoint.locked_checkpoint_folder(out, fresh=False) as folder:
        for step in (1, 2):
            checkpoint.save_checkpoint(folder, checkpoint.Checkpoint(step, {"weights": {"one": torch.ones(3)}}, {}))
            (folder / f"step-{step}" / "notes").write_text("mine")
        (folder / "mine").mkdir()
        (folder / "mine" / "notes").write_text("mine")
        checkpoint.save_checkpoint(folder, checkpoint.Checkpoint(3, {"weights": {"one": torch.ones(3)}}, {}))
    with checkpoint.locked_checkpoint_folder(out, fresh=True) as folder:
        checkpoint.clear_folder(folder)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        ".step-1.old.partial/notes", "mine/notes", "step-2/notes",
    ]  # fmt: skip
    assert out.parent.joinpath(".model.training") == folder
