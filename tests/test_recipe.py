"""Recipes: defaults, extends, overrides, and errors that name the key and the nearest known one."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder import registry
from git_starcoder.errors import RecipeError
from git_starcoder.recipe import AugmentationOptions, DedupOptions, Recipe, SplitOptions


def write(folder, text, name="own.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def refused(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path, overrides)
    return caught.value


@pytest.mark.parametrize("name", registry.names("recipes"))
def test_every_recipe_of_the_shelf_loads_and_says_what_it_is(name):
    recipe = Recipe.load(name)
    assert recipe.name == name
    assert recipe.about


def test_the_effectiveness_recipe_is_what_the_seeds_say():
    recipe = Recipe.load("effectiveness")
    assert recipe.augment == {
        "comment_toggle": AugmentationOptions(0.7),
        "format_variation": AugmentationOptions(0.6),
        "token_masking": AugmentationOptions(0.5, copies=2),
        "variable_renaming": AugmentationOptions(0.8),
    }
    assert (recipe.window.size, recipe.window.overlap) == ("auto", 0.75)
    assert (recipe.weigh.core, recipe.weigh.utility, recipe.weigh.test) == (3.0, 1.0, 0.3)
    assert (recipe.split.train, recipe.split.val, recipe.split.test) == (0.85, 0.10, 0.05)
    assert recipe.order.by == "curriculum"
    assert recipe.dedup.exact
    assert recipe.dedup.near


def test_the_baseline_recipe_is_what_the_seeds_say():
    recipe = Recipe.load("baseline")
    assert (recipe.window.size, recipe.window.overlap) == (512, 0.25)
    assert (recipe.augment, recipe.order.by, recipe.dedup) == ({}, "random", DedupOptions(exact=True, near=None))
    assert recipe.weigh.core == recipe.weigh.utility == recipe.weigh.test == 1.0


def test_an_empty_file_is_the_defaults(tmp_path):
    assert Recipe.load(write(tmp_path, "")) == Recipe(name="own")


def test_a_recipe_in_full_reads_back_as_itself(tmp_path):
    for name in registry.names("recipes"):
        recipe = Recipe.load(name)
        assert Recipe.load(write(tmp_path, recipe.to_yaml())) == recipe


def test_extends_keeps_what_is_not_said_again(tmp_path):
    recipe = Recipe.load(
        write(tmp_path, "extends: effectiveness\nwindow: {size: 256}\naugment: {token_masking: 0.1}\n")
    )
    base = Recipe.load("effectiveness")
    assert recipe.window == replace(base.window, size=256)
    assert recipe.augment == {**base.augment, "token_masking": AugmentationOptions(0.1)}
    assert recipe.weigh == base.weigh
    assert recipe.name == "own"


def test_extends_a_file_beside_it(tmp_path, monkeypatch):
    write(tmp_path, "extends: baseline\nseed: 7\n", "first.yaml")
    path = write(tmp_path, "extends: first.yaml\nwindow: {overlap: 0.5}\n", "second.yaml")
    monkeypatch.chdir("/")
    recipe = Recipe.load(path)
    assert (recipe.seed, recipe.window.size, recipe.window.overlap) == (7, 512, 0.5)


def test_a_circle_is_an_error_with_its_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "extends: b.yaml\n", "a.yaml")
    write(tmp_path, "extends: a.yaml\n", "b.yaml")
    error = refused("a.yaml")
    assert error.what == "recipe 'a.yaml' extends itself"
    assert error.where == "a.yaml → b.yaml → a.yaml"


def test_a_recipe_may_extend_another_one_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    write(tmp_path, "extends: sub/b.yaml\n", "m.yaml")
    write(tmp_path / "sub", "extends: m.yaml\n", "b.yaml")
    write(tmp_path / "sub", "extends: baseline\nseed: 7\n", "m.yaml")
    assert Recipe.load("m.yaml").seed == 7


def test_a_chain_of_recipes_has_an_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(3000):
        write(tmp_path, f"extends: {number + 1}.yaml\n", f"{number}.yaml")
    assert refused("0.yaml").what == "more than 16 recipes extend one another"


def test_what_is_extended_is_text_and_no_bomb(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bomb = "x: [&a0 [1, 1]" + "".join(f", &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)) + "]\n"
    write(tmp_path, f"{bomb}extends: *a29\n", "bomb.yaml")
    error = refused("bomb.yaml")
    assert error.what == "'extends' is a list and should be text or null"
    assert error.where == "bomb.yaml, extends"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            'window: {header: "a\\uDC80b"}',
            "recipe 'own.yaml' is not YAML: a text has half of a surrogate pair (line 1)",
        ),
        (f"seed: 0x{'f' * 4000}", "recipe 'own.yaml' is not YAML: a whole number is too large"),
        (f"seed: {'9' * 5000}", "recipe 'own.yaml' is not YAML: Exceeds the limit"),
    ],
)
def test_values_that_nothing_can_print_are_refused(tmp_path, monkeypatch, text, what):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, f"{text}\n", "own.yaml")
    assert refused("own.yaml").what.startswith(what)


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("windwo: {size: 512}", "unknown key 'windwo'", "did you mean 'window'?"),
        ("window: {sise: 512}", "unknown key 'sise'", "did you mean 'size'?"),
        ("augment: {token_maskin: 1}", "unknown augmentation 'token_maskin'", "did you mean 'token_masking'?"),
        ("extends: effectivenes", "recipe 'effectivenes' is not known", "did you mean 'effectiveness'?"),
    ],
)
def test_an_unknown_key_is_an_error_with_a_suggestion(tmp_path, text, what, hint):
    error = refused(write(tmp_path, text))
    assert error.what == what
    assert error.hint.startswith(hint)


def test_a_recipe_that_extends_what_is_not_there_is_named(tmp_path):
    assert refused(write(tmp_path, "extends: effectivenes", "own.yaml")).where.endswith("own.yaml, extends")
    assert refused("effectivenes").where == "--recipe"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("- a\n- list\n", "recipe"),
        ("a: [", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("window: 5", "'window' is a section with keys, not 5"),
        ("window: {size: big}", "'size' is 'big' and should be a whole number from 16 to 1,048,576, a list of"),
        ("window: {size: 8}", "'size' is 8 and should be a whole number from 16 to 1,048,576"),
        ("window: {size: true}", "'size' is True and should be a whole number from 16 to 1,048,576, a list of"),
        ("window: {overlap: 1}", "'overlap' is 1 and should be a number from 0 to below 1"),
        ("window: {vocab_size: 100}", "'vocab_size' is 100 and should be a whole number from 512 to 1,000,000"),
        ("split: {train: 0.9}", "must add up to 1"),
        ("split: {near: 1.5}", "'near' is 1.5 and should be a number from 0 to 1"),
        ("dedup: {near: -1}", "'near' is -1 and should be a number from 0 to 1"),
        ("dedup: {exact: 1}", "'exact' is 1 and should be true or false"),
        ("weigh: {core: 0}", "'core' is 0 and should be a number from 0.05 to 1,000"),
        ("read: {max_bytes: 0}", "'max_bytes' is 0 and should be a whole number from 1"),
        ("augment: {token_masking: 2}", "'share' is 2 and should be a number from 0 to 1"),
        ("augment: {token_masking: {share: 1, copies: 0}}", "'copies' is 0 and should be a whole number from 1 to 16"),
        ("augment: {token_masking: {sahre: 1}}", "unknown key 'sahre'"),
        ("augment: {token_masking: often}", "'share' is 'often' and should be a number from 0 to 1"),
        ("augment: [token_masking]", "'augment' is a section with keys, not ['token_masking']"),
        ("analyse: {skip: tests}", "'skip' is 'tests' and should be a list of 'generated' or 'vendored'"),
        ("analyse: {skip: [tests]}", "'skip' is ['tests'] and should be a list of 'generated' or 'vendored'"),
        ("window: {size: []}", "window sizes need at least one value"),
        ("window: {size: [64, 64]}", "window sizes need at least one value, all distinct"),
        ("window: {size: [64, 8]}", "'size' is [64, 8] and should be"),
        ("window: {size: [64, much]}", "'size' is [64, 'much'] and should be"),
        ("weigh: {recent: 1e305}", "'recent' is 1e+305 and should be a number from 0.05 to 1,000"),
        ("order: {by: size}", "'by' is 'size' and should be 'curriculum' or 'random'"),
        ("weigh: {core: .nan}", "'core' is nan and should be a number"),
        ("weigh: {core: .inf}", "'core' is inf and should be a number"),
        ("split: {train: .nan}", "'train' is nan and should be a number"),
        ("seed: 1.5", "'seed' is 1.5 and should be a whole number"),
    ],
)
def test_a_value_that_cannot_be_is_an_error(tmp_path, text, what):
    assert what in refused(write(tmp_path, text)).what


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    assert "is not known" in refused(tmp_path / "none.yaml").what
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refused(path).what


def test_overrides_are_on_top():
    recipe = Recipe.load("effectiveness", ("window.size=64", "seed=3", "augment.token_masking=0", "dedup.near=null"))
    assert (recipe.window.size, recipe.seed, recipe.augment["token_masking"].share, recipe.dedup.near) == (
        64,
        3,
        0.0,
        None,
    )
    assert Recipe.load("effectiveness").window.size == "auto"


@pytest.mark.parametrize(
    "override", ["window.size", "=3", "a.b.c=1", "window..size=3", "window.size=[", "window.sice=3"]
)
def test_an_override_that_is_not_one(override):
    assert refused("baseline", override).hint or refused("baseline", override).where


def test_the_fingerprint_is_of_what_changes_the_bytes():
    recipe = Recipe.load("effectiveness")
    assert replace(recipe, name="other", about="words").fingerprint() == recipe.fingerprint()
    changed = [
        replace(recipe, seed=1),
        replace(recipe, dedup=DedupOptions(near=None)),
        replace(recipe, augment={}),
        replace(recipe, split=SplitOptions(near=0.4)),
    ]
    assert len({recipe.fingerprint(), *(each.fingerprint() for each in changed)}) == 5


@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_a_recipe_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(RecipeError):
        assert isinstance(Recipe.load(path), Recipe)


def test_a_recipe_of_the_shelf_is_plain_yaml():
    for name in registry.names("recipes"):
        assert isinstance(yaml.safe_load(registry.read("recipes", name)), dict)
