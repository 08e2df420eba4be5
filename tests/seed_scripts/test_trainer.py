"""What `--checkpoint` means to the seeds' trainer; what it trains is tested with the seeds' documents."""

from __future__ import annotations

import numpy as np
import pytest

from checkout import CONFIG, ROOT
from git_starcoder.cli import main, seed_trainer_script
from git_starcoder.model.checkpoint import checkpoint_folder


@pytest.fixture
def called(monkeypatch, tmp_path):
    """Give the trainer flags; gives what it would train, or None where it refused."""
    calls = []

    def record(_dataset, loaded, epochs, output, *, force):
        calls.append((loaded.config.base, output, epochs, loaded.config_for(np.ones((4, 2)), epochs).epochs, force))

    monkeypatch.setattr(seed_trainer_script, "_train", record)
    monkeypatch.setattr(seed_trainer_script, "_dataset_and_split", lambda *_: (None, "train"))
    monkeypatch.setattr(seed_trainer_script, "_select_device", lambda _: None)
    monkeypatch.chdir(tmp_path)

    def call(*flags):
        calls.clear()
        code = main(["--config", str(ROOT / CONFIG), *flags], command=seed_trainer_script.command)
        assert code == (0 if calls else 2)
        return calls[0] if calls else None

    return call


def test_a_model_is_gone_on_from(called, tmp_path):
    (tmp_path / "a").mkdir()
    base, output, *rest = called("--checkpoint", "a", "--output", "b", "--epochs", "300")
    assert (base, str(output), rest) == ("a", "b", [300, 300.0, False])


def test_an_unfinished_training_is_gone_on_with(called, tmp_path, capsys):
    checkpoint_folder(tmp_path / "a").mkdir()
    for flags in ([], ["--output", "a"]):
        base, output, *_ = called("--checkpoint", "a", *flags)
        assert (base, str(output)) == (None, "a")
    assert called("--checkpoint", "a", "--output", "b") is None
    assert "hint: --output a resumes it" in capsys.readouterr().err


def test_a_training_needs_a_folder(called, capsys):
    assert called() is None
    assert "a training needs a folder for its model" in capsys.readouterr().err
