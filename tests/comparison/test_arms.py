"""Arms and features: what can be switched off follows from the keys of recipes and trainings."""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from typing import get_args

import pytest

from git_starcoder import registry
from git_starcoder.comparison.arms import ArmOptions, ablate, list_features, read_arms, without
from git_starcoder.errors import RecipeError, UsageError
from git_starcoder.model.config import DEFAULT_FIM_SHARE, TrainConfig
from git_starcoder.recipe import AugmentationOptions, Recipe
from git_starcoder.strict_config import check_value, field_types, off_values

NO_FEATURES = {
    # Recipe: who is held out, and which bytes are read, is the same for all arms or a question of safety; sizes and
    # names; the layout of the files; the weights of several repositories.
    "split": {"holdout", "commits", "train", "val", "test", "near"},
    "read": {"max_bytes", "max_line", "mean_line", "commit_files", "secrets"},
    "window": {"tokenizer", "vocab_size"},
    "dedup": {"embedded"},
    "write": {"format", "copies", "labels"},
    "repos": {"weights", "temperature", "licenses"},
    "augment": {"copies"},
    # Training: what is trained and where, budgets, sizes, and choices between equals.
    "train": {
        "base", "size", "rope_base", "tune", "lora_rank", "lora_alpha", "merge", "minutes", "steps", "epochs", "tokens", "batch",
        "micro_batch", "order", "context_dropout", "optimizer", "learning_rate", "decay_epochs", "schedule", "clip",
        "patience", "seed", "device", "shard", "precision", "recompute", "saved_precision", "compile", "checkpoint_minutes", "tensorboard",
    },
}  # fmt: skip
"""Keys that are no features. A new key must be put here, or say in its declaration what switches it off."""


def arm(recipe="natural", *overrides, **options):
    return ArmOptions(**options).make_arm(recipe, recipe, overrides)


def sections():
    kinds = {name: kind for name, kind in field_types(Recipe).items() if is_dataclass(kind)}
    return {**kinds, "augment": AugmentationOptions, "train": TrainConfig}


@pytest.mark.parametrize("section", sections())
def test_every_key_is_a_feature_or_known_not_to_be_one(section):
    kind = sections()[section]
    off = off_values(kind)
    assert set(field_types(kind)) - set(off) == NO_FEATURES.get(section, set())
    for key, value in off.items():
        check_value(key, value, field_types(kind)[key])


@pytest.mark.parametrize("name", registry.names("recipes"))
def test_a_recipe_without_all_its_features_has_none(name):
    last = arm(name)
    while features := list_features(last):
        last = without(last, features[0])
    assert not last.recipe.augment
    assert last.recipe.read.changes == 0
    assert last.recipe.weigh == type(last.recipe.weigh)()


def test_each_feature_is_switched_off_alone():
    elite = arm("elite")
    names = list_features(elite)
    assert {"augment.git_diff", "read.changes", "weigh", "order.by", "window.overlap", "train.warmup"} <= set(names)
    assert "weigh.core" not in names
    arms = ablate(elite)
    assert [each.name for each in arms] == [f"without {name}" for name in names]
    off = dict(zip(names, arms, strict=True))
    assert off["augment.git_diff"].recipe.augment == {
        key: value for key, value in elite.recipe.augment.items() if key != "git_diff"
    }
    assert off["weigh"].recipe == replace(elite.recipe, weigh=type(elite.recipe.weigh)())
    assert off["train.warmup"].recipe == elite.recipe
    assert off["train.warmup"].config == replace(elite.config, warmup=0.0)


def test_a_training_key_is_a_feature_if_it_is_on():
    assert "train.noise" not in list_features(arm())
    assert "train.noise" in list_features(arm(training=("noise=0.05",)))
    assert "train.fim" in list_features(arm())  # by default, on rows with headers
    assert "train.fim" not in list_features(arm("natural", "window.header=null"))
    assert without(arm(), "window.header").config.fim == DEFAULT_FIM_SHARE  # only the header is switched off
    assert without(without(arm(), "train.fim"), "window.header").config.fim == 0
    other = arm("natural", "window.tokenizer=some/model")  # perhaps it has no tokens for it
    assert without(other, "window.header").config.fim is None
    assert "train.shift_windows" in list_features(arm())
    assert "train.shift_windows" not in list_features(arm("natural", "window.overlap=0.5"))


def test_a_key_that_changes_nothing_is_no_feature():
    assert "window.size" not in list_features(arm("natural", "window.size=auto"))
    assert "window.size" in list_features(arm("natural", "window.size=[64, 128]"))


def test_sections_are_switched_off_as_a_whole():
    off = without(arm("elite"), "augment")
    assert off.name == "without augment"
    assert off.recipe.augment == {}


@pytest.mark.parametrize(
    ("feature", "what", "hint"),
    [
        ("augment.git_dif", "'augment.git_dif' is not a feature", "did you mean 'augment.git_diff'?"),
        ("train.noise", "'train.noise' is not on in arm 'elite'", "on are: "),
        ("augment.comment_toggle", "'augment.comment_toggle' is not on in arm 'elite'", "on are: "),
        ("split.near", "'split.near' is not a feature", "did you mean 'dedup.near'?"),
        ("", "'' is not a feature", "known: "),
    ],
)
def test_what_cannot_be_switched_off(feature, what, hint):
    with pytest.raises(UsageError) as caught:
        without(arm("elite"), feature)
    assert caught.value.what == what
    assert caught.value.hint.startswith(hint)


def test_seeds_change_the_dataset_and_the_training():
    first, second = (replace(arm(), first_seed=5).with_seed(number) for number in (0, 1))
    assert (first[0].seed, first[1].seed, second[0].seed, second[1].seed) == (5, 5, 6, 6)
    assert replace(first[0], seed=0) == replace(second[0], seed=0)


def test_arms_of_a_file(tmp_path):
    path = tmp_path / "arms.yaml"
    path.write_text(
        "today: {recipe: natural}\n"
        "short: {recipe: natural, set: [window.size=512], train: [fim=0, size=small], seed: 7}\n"
    )
    today, short = read_arms(path, ArmOptions(overrides=("window.overlap=0.5",), training=("fim=0.1",), tokens=1000))
    assert (today.name, today.recipe.window.overlap, today.config.fim, today.config.tokens) == ("today", 0.5, 0.1, 1000)
    assert (short.name, short.recipe.window.size, short.config.fim, short.config.size) == ("short", 512, 0.0, "small")
    assert short.first_seed == 7


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: {recipe: natural, build: []}", "arm 'a' has the unknown key 'build'"),
        ("a: natural", "arm 'a' is not a mapping with a recipe"),
        ("a: {recipe: natural, seed: x}", "arm 'a' is not a mapping with a recipe"),
        ("a: {recipe: natural, set: window.size=512}", "arm 'a' is not a mapping with a recipe"),
        ("a: {recipe: natural, train: [fimm=0]}", "unknown key 'fimm'"),
        ("- a", "the file of arms is not a mapping of keys to values"),
    ],
)
def test_a_file_that_is_none(tmp_path, text, what):
    path = tmp_path / "arms.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_arms(path, ArmOptions())
    assert caught.value.what == what
    with pytest.raises(RecipeError):
        ArmOptions().make_arm("x", "natral")


def test_off_marks_do_not_change_what_values_are_described_as():
    hint = field_types(TrainConfig)["noise"]
    assert len(get_args(hint)) == 3
    with pytest.raises(UsageError, match="'noise' is 2 and should be a number from 0 to below 1"):
        check_value("noise", 2, hint)
