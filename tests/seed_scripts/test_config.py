"""The keys of the seeds' trainer, in our words."""

from __future__ import annotations

from dataclasses import asdict, fields

import numpy as np
import pytest

from git_starcoder.cli.seed_trainer_script import DERIVED_KEYS, RENAMED_KEYS, SeedConfig, SeedKeys
from git_starcoder.errors import UsageError
from git_starcoder.model.config import TrainConfig
from git_starcoder.strict_config import Places, from_values


@pytest.fixture
def loaded(tmp_path):
    def load(text, **flags):
        file = tmp_path / "config.yaml"
        file.write_text(text, encoding="utf-8")
        return SeedConfig.load(file, **flags)

    return load


@pytest.mark.parametrize(("text", "said"), [
    ("batchsize: 3", "did you mean 'batch_size'?"), ("use_lora: true", "tune: lora needs a base model"),
    ("batch_size: 0", "'batch_size' is 0"), ("learning_rate: fast", "'learning_rate' is 'fast'"), ("- 1", "not a mapping"),
    ("a: [", "not YAML"), ("seed: true", "'seed' is True"), ("train_path: 3", "'train_path' is 3"),
    ("minutes: 3", "here it is 'max_epochs'"), ("batch: 512", "here it is 'batch_size'"),
    ("model_size: tiny\\nsize: small", "'model_size' and 'size' are the same key"), ("warmup_steps: -1", "'warmup_steps' is -1"),
    ("batch_size: 2\\nbatch_size: 3", "'batch_size' stands twice"),
])  # fmt: skip
def test_what_cannot_be_is_refused(loaded, text, said):
    with pytest.raises(UsageError) as error:
        loaded(text.replace("\\n", "\n"))
    assert said in f"{error.value.what} {error.value.hint}"


def test_other_trainers_words_are_ours(loaded):
    _, config = loaded(
        "base_model: a\nuse_lora: true\nlora_r: 4\nlora_alpha: 8\nlora_dropout: 0.1\nmax_grad_norm: 0.5\n"
        "weight_decay: 0.01\ndropout: 0.1\nschedule: cosine\n"
    )
    assert config == TrainConfig(
        base="a", tune="lora", lora_rank=4, lora_alpha=8, lora_dropout=0.1, clip=0.5, weight_decay=0.01, dropout=0.1,
        schedule="cosine",
    )  # fmt: skip


def test_every_key_of_ours_has_a_word_here():
    known = {each.name for each in fields(TrainConfig)} - {*DERIVED_KEYS}
    assert {*RENAMED_KEYS.values()} <= known
    assert not known & {each.name for each in fields(SeedKeys)}
    assert {*DERIVED_KEYS.values()} <= {each.name for each in fields(SeedKeys)}


def test_flags_go_over_the_file(loaded):
    _, config = loaded("base_model: a\nuse_lora: true", base="b", device="cpu")
    assert (config.base, config.tune, config.device) == ("b", "lora", "cpu")
    assert loaded("use_lora: true", base="b").config.tune == "lora"
    assert loaded("seed: 3", base=None, device=None).config == TrainConfig(seed=3)


def test_rows_of_a_step_become_tokens_and_steps_of_warmup_a_share(loaded):
    drawn = np.array([(100, 3.0), (100, 1.0), (20, 2.0), (40, 0.5)])
    config = loaded("batch_size: 4\ngradient_accumulation_steps: 2\nwarmup_steps: 5").config_for(drawn, 60)
    mean = (300 + 100 + 40 + 20) / 6.5
    assert config.batch == round(8 * mean)
    assert config.epochs == 60
    assert config.warmup == pytest.approx(5 / (60 * 460 / config.batch))
    assert from_values(TrainConfig, asdict(config), Places("here")) == config


def test_more_warmup_than_training_is_half_of_it(loaded):
    assert loaded("warmup_steps: 1000").config_for(np.array([(10, 1.0)]), 1).warmup == 0.5
    assert loaded("warmup_steps: 0").config_for(np.array([(10, 1.0)]), 1).warmup == 0
    assert loaded("").config_for(np.zeros((0, 2)), 1).epochs == 1
