"""One dialect of YAML for recipes and trainings: what is a number, what is not, and that no key stands twice."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from git_starcoder.errors import StarcoderError
from git_starcoder.model.config import TrainConfig
from git_starcoder.recipe import Recipe
from git_starcoder.strict_config import NotYamlError, dump, load

VALUES = [
    ("5e-1", 0.5), ("1e5", 1e5), ("1E5", 1e5), ("+.5", 0.5), ("1.", 1.0), ("-2.5e+3", -2500.0), (".inf", math.inf), ("-.Inf", -math.inf),
    ("12", 12), ("-12", -12), ("010", 10), ("0o17", 15), ("0x1F", 31),
    ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
    ("off", "off"), ("yes", "yes"), ("y", "y"), ("1_000", "1_000"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("=", "="),
    ("'1e5'", "1e5"), ("!!str 5", "5"), ("!!int '5'", 5), ("!!float 5", 5.0),
    ("{<<: {a: 1}}", {"<<": {"a": 1}}), ("[1, {a: b}]", [1, {"a": "b"}]), ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
]  # fmt: skip
REFUSED = [
    ("a: 1\nb: 2\na: 3", "'a' stands twice (line 3)"),
    ("a: 1\n'a': 3", "'a' stands twice (line 2)"),
    ("a: {b: 1,\n  c: 2, b: 3}", "'b' stands twice (line 2)"),
    ("- x\n- {7: a, 0x7: b}", "'0x7' stands twice (line 2)"),
    ("[a]: 1", "a key must be a plain value (line 1)"),
    ("\n!!int ten", "'ten' is no int (line 2)"),
    ("!!int ''", "'' is no int"),
    ("!!bool maybe", "'maybe' is no bool"),
    ("!!null x", "'x' is no null"),
    ("!!map [1]", "expected a mapping"),
    ("!!seq {a: 1}", "expected a sequence"),
    ("!!int [1]", "expected a scalar"),
    ("!!timestamp x", "timestamp"),
    ("!!binary x", "binary"),
    ("!!set {a}", "set"),
    ("!own 1", "!own"),
    ("? !!merge x\n: {a: 1}", "merge"),
    ("!!python/object/apply:os.system ['true']", "python/object"),
    ("a\nb: 1\n: [", "(line "),
    ("a: 1\n\tb: 2", "(line 2)"),
    ("--- a\n--- b", "another document"),
    ("*b", "undefined alias"),
    ("a\0b", "#x0000"),
    ("[" * 5000, "nested"),
    ("9" * 9999, "4300"),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_a_value_is_what_yaml_1_2_says(text, value):
    read = load(text)
    assert read == value
    assert type(read) is type(value)


def test_not_a_number_is_one():
    assert math.isnan(load(".NaN"))


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_what_is_not_yaml_says_why_and_where(text, why):
    with pytest.raises(NotYamlError) as error:
        load(text)
    assert why in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 220


@given(st.text(alphabet="ab1:-?[]{},&*!|>'\"%@`#=~. \n\te0x_", max_size=40) | st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    with suppress(NotYamlError):
        load(text)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
LOOKALIKES = st.sampled_from([text for text, _ in VALUES if text.isprintable()] + ["1e5", "0o7", "on", "1:30:00", "<<"])


@settings(max_examples=50)
@given(
    st.recursive(
        PLAIN | LOOKALIKES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5) | LOOKALIKES, inner)
    )
)
def test_what_is_written_is_read_as_the_same_by_us_and_by_readers_of_1_1(value):
    text = dump({"value": value})
    assert load(text) == yaml.safe_load(text) == {"value": value}


@pytest.mark.parametrize("number", ["5e-1", "0.5", ".5", "+5E-1"])
def test_recipes_and_trainings_read_the_same_numbers(tmp_path, number):
    (tmp_path / "recipe.yaml").write_text(f"split: {{near: {number}}}")
    (tmp_path / "training.yaml").write_text(f"dropout: {number}")
    assert Recipe.load("baseline", (f"split.near={number}",)) == Recipe.load("baseline", ("split.near=0.5",))
    assert Recipe.load(tmp_path / "recipe.yaml").split.near == 0.5
    assert (
        TrainConfig.load(None, (f"dropout={number}",)).dropout
        == TrainConfig.load(tmp_path / "training.yaml").dropout
        == 0.5
    )


def test_recipes_and_trainings_take_a_whole_number_with_an_exponent():
    assert Recipe.load("baseline", ("read.max_bytes=1e6",)).read.max_bytes == 10**6
    assert TrainConfig.load(None, ("tokens=1e6",)).tokens == 10**6


@pytest.mark.parametrize("text", ["seed: 1\nabout: x\nseed: 2\n", "seed: 1\n\n\n'seed': 2\n"])
@pytest.mark.parametrize("kind", [Recipe, TrainConfig])
def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path, kind, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(StarcoderError) as error:
        kind.load(path)
    assert f"'seed' stands twice (line {text.count(chr(10))})" in error.value.what
    assert "own.yaml" in error.value.where


def test_a_key_of_a_section_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("window:\n  size: 64\n  overlap: 0.5\n  size: 128\n")
    with pytest.raises(StarcoderError, match=r"'size' stands twice \(line 4\)"):
        Recipe.load(path)
    with pytest.raises(StarcoderError, match="'size' stands twice"):
        Recipe.load("baseline", ("window={size: 64, size: 128}",))


def test_secrets_may_be_off_and_not_false(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("read: {secrets: off}")
    assert Recipe.load(path).read.secrets == Recipe.load("baseline", ("read.secrets=off",)).read.secrets == "off"
    with pytest.raises(StarcoderError, match="'secrets' is False and should be 'redact'"):
        Recipe.load("baseline", ("read.secrets=false",))


def test_a_recipe_called_like_a_number_is_read_back(tmp_path):
    path = tmp_path / "1e5.yaml"
    path.write_text("extends: baseline")
    recipe = Recipe.load(path)
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    assert Recipe.load(tmp_path / "again.yaml") == recipe


@pytest.mark.parametrize("text", ["[]", "false", "0", "''"])
def test_only_nothing_is_an_empty_recipe(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(StarcoderError, match="is not a mapping"):
        Recipe.load(path)
    path.write_text("# nothing\n")
    assert Recipe.load(path).name == "own"
