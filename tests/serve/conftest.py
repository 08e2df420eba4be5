"""A tiny model that has learned to fill gaps, a repository that it follows, and a server."""

from __future__ import annotations

import pytest

import finished
from git_starcoder.model import architecture, network
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.training import train
from git_starcoder.serve.engine import Engine
from serving import FILES, running
from shell import HUNG

TOY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="session", autouse=True)
def _toy_size():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "limit_library_threads", lambda: 1)
        patch.setitem(architecture.MODEL_SIZES, "toy", TOY)
        yield


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "dataset"
    return finished.toy(folder, repository="project", size=256, stride=256, vocab_size=600)


@pytest.fixture(scope="session")
def model_folder(dataset, _toy_size):
    folder = dataset.folder.parent / "model"
    config = {"size": "toy", "batch": 2048, "device": "cpu", "precision": "float32", "steps": 30, "fim": 0.4}
    train(dataset, folder, TrainConfig(**config, context_tokens=64))
    return folder


@pytest.fixture
def work_tree(repo_maker):
    return repo_maker(FILES)


@pytest.fixture
def engine(model_folder, work_tree):
    with Engine.open(model_folder, repository=work_tree) as engine:
        assert engine.follower.wait(HUNG)
        yield engine


@pytest.fixture(scope="module")
def shared_engine(model_folder, repo_maker):
    """For tests that change no files."""
    with Engine.open(model_folder, repository=repo_maker(FILES)) as engine:
        assert engine.follower.wait(HUNG)
        yield engine


@pytest.fixture(scope="module")
def client(shared_engine):
    with running(shared_engine) as client:
        yield client
