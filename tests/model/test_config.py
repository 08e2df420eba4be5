"""One strict config: from YAML, from `--set`, from flags, from the defaults; and one clear line for all that cannot be."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import fields

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.errors import UsageError
from git_starcoder.model.config import BUDGET_KEYS, TrainConfig
from git_starcoder.strict_config import Places, from_values


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "own.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refused(*arguments, **flags):
    with pytest.raises(UsageError) as error:
        TrainConfig.load(*arguments, **flags)
    assert "\n" not in f"{error.value.what}{error.value.where}{error.value.hint}"
    assert "pydantic" not in error.value.what
    assert len(error.value.what) < 500
    return error.value


def test_without_anything_it_is_the_defaults():
    assert TrainConfig.load() == TrainConfig()


def test_flags_go_over_overrides_and_those_over_the_file(file):
    path = file("learning_rate: 3e-4\nseed: 1\nclip: 0.5\ndropout: 0.1\n")
    config = TrainConfig.load(path, ("seed=2", "clip=0.7"), clip=0.9, device=None)
    assert (config.learning_rate, config.seed, config.clip, config.dropout) == (3e-4, 2, 0.9, 0.1)
    assert config.schedule == TrainConfig().schedule


def test_a_budget_takes_the_place_of_that_of_the_file(file):
    path = file("epochs: 3")
    assert TrainConfig.load(path).epochs == 3
    config = TrainConfig.load(path, ("tokens=1e6",), steps=7)
    assert {key: getattr(config, key) for key in BUDGET_KEYS} == {
        "minutes": None,
        "steps": 7,
        "epochs": None,
        "tokens": None,
    }
    error = refused(file("epochs: 3\nsteps: 4"))
    assert error.what == "only one budget may be set, not steps and epochs"
    assert error.where.endswith("own.yaml")
    assert refused(None, ("steps=3", "minutes=1")).where == "--set steps, --set minutes"


@pytest.mark.parametrize(
    ("text", "value"), [("1e-5", 1e-5), ("1E-5", 1e-5), (".5e-3", 5e-4), ("1.e-3", 1e-3), ("3", 3.0), ("0x10", 16.0)]
)
def test_numbers_are_numbers(file, text, value):
    assert TrainConfig.load(file(f"learning_rate: {text}")).learning_rate == value
    assert TrainConfig.load(None, (f"learning_rate={text}",)).learning_rate == value


def test_whole_numbers_may_be_written_with_an_exponent_and_a_size_is_a_name():
    assert TrainConfig.load(None, ("tokens=1e9", "size=1.24e8")) == TrainConfig(tokens=10**9, size="124000000")


@pytest.mark.parametrize(("text", "what", "where", "hint"), [
    ("learning_rat: 1", "unknown key 'learning_rat'", "own.yaml", "did you mean 'learning_rate'?"),
    ("train: {learning_rate: 1}", "unknown key 'train'", "own.yaml", ""),
    ("learning_rate: fast", "'learning_rate' is 'fast' and should be a number above 0", "own.yaml, learning_rate", ""),
    ("learning_rate: '1e-3'", "'learning_rate' is '1e-3' and should be a number above 0", "own.yaml", ""),
    ("learning_rate: -1", "'learning_rate' is -1 and should be a number above 0", "own.yaml, learning_rate", ""),
    ("learning_rate: .inf", "'learning_rate' is inf and should be a number above 0", "own.yaml, learning_rate", ""),
    ("learning_rate: .nan", "'learning_rate' is nan and should be", "own.yaml, learning_rate", ""),
    ("batch: true", "'batch' is True and should be a whole number from 1 to 1,000,000,000,000,000", "own.yaml, batch", ""),
    ("batch: 1.5", "'batch' is 1.5 and should be a whole number from 1 to 1,000,000,000,000,000", "own.yaml, batch", ""),
    ("batch: 1e300", "should be a whole number from 1", "own.yaml, batch", ""),
    ("batch: 0x" + "f" * 9999, "a whole number is too large", "own.yaml", ""),
    ("batch: " + "9" * 9999, "not YAML", "own.yaml", ""),
    ("batch: null", "'batch' is None and should be a whole number from 1 to 1,000,000,000,000,000", "own.yaml, batch", ""),
    ("optimizer: muo", "'optimizer' is 'muo' and should be 'muon', 'adamw' or 'adamw8bit'", "own.yaml, optimizer", "did you mean 'muon'?"),
    ("size: [1]", "'size' is [1] and should be text", "own.yaml, size", ""),
    ("size: {a: 1}", "'size' is a mapping and should be text", "own.yaml, size", ""),
    ("compile: 3", "'compile' is 3 and should be true, false or null", "own.yaml, compile", ""),
    ("tune: lora", "tune: lora needs a base model", "own.yaml", ""),
    ("learning_rate: null", "learning_rate may be null only where", "own.yaml, learning_rate", ""),
    ("seed: 1\nseed: 2", "'seed' stands twice", "own.yaml", ""),
    ("- 1", "is not a mapping", "--config", ""),
    ("just words", "is not a mapping", "--config", ""),
    ("a: [", "not YAML", "own.yaml", ""),
    ("[" * 5000, "not YAML", "own.yaml", ""),
    ("a: !!python/object/apply:os.system [true]", "not YAML", "own.yaml", ""),
    ("1: 2", "unknown key '1'", "own.yaml", ""),
    (b"\xff\xfe\x00", "is not text", "--config", ""),
    ("size: [&a [x, x], &b [*a, *a], *b]", "'size' is a list", "own.yaml", ""),
])  # fmt: skip
def test_what_cannot_be_is_one_clear_line(file, text, what, where, hint):
    error = refused(file(text))
    assert what in error.what
    assert where in error.where
    assert hint in error.hint


def test_the_place_is_where_it_was_said(tmp_path):
    assert refused(None, ("seed=x",)).where == "--set seed"
    assert refused(None, (), seed=-1).where == "--seed"
    assert refused(None, ("seed",)).hint == "for example --set weight_decay=0.5"
    assert refused(None, ("=3",)).where == "--set"
    assert refused(None, ("seed=[",)).where == "--set seed"
    assert refused(None, (), tune="lora").where == "--tune"
    assert "No such file" in refused(tmp_path / "none.yaml").what
    assert "Is a directory" in refused(tmp_path).what


@given(st.dictionaries(st.sampled_from([*(each.name for each in fields(TrainConfig)), "x"]),
                       st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                                    lambda below: st.lists(below) | st.dictionaries(st.text(), below), max_leaves=4)))  # fmt: skip
def test_no_value_ends_in_anything_but_a_config_or_a_clear_line(values):
    with suppress(UsageError):
        assert from_values(TrainConfig, values, Places("here")).fingerprint()


def test_a_config_is_given_back_by_its_yaml(tmp_path):
    config = TrainConfig(steps=3, learning_rate=1e-5, size="124M", compile=False, device="cpu")
    path = tmp_path / "training.yaml"
    path.write_text(config.to_yaml())
    assert TrainConfig.load(path) == config
    assert TrainConfig.load(path).fingerprint() == config.fingerprint()
    assert list(yaml.safe_load(config.to_yaml())) == [each.name for each in fields(TrainConfig)]
    assert TrainConfig.load(path, minutes=2.0).steps is None


@pytest.mark.parametrize("arguments", [["-h"], ["train", "-h"], ["doctor", "-h"]])
def test_help_loads_nothing_heavy(arguments):
    code = (
        "import sys; from git_starcoder.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'pydantic', 'torch', 'transformers', 'numpy', 'yaml'} & set(sys.modules); sys.exit(str(heavy) if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_larger_models_have_lower_rates_and_larger_batches():
    sizes = ["1M", "tiny", "small", "medium", "large", "huge"]
    found = {size: (config.learning_rate, config.batch) for size in sizes if (config := TrainConfig(size=size))}
    assert found == {
        "1M": (1e-2, 2048), "tiny": (1e-2, 2048), "small": (6.1e-3, 8192), "medium": (4.6e-3, 16384),
        "large": (3.3e-3, 32768), "huge": (2.5e-3, 65536),
    }  # fmt: skip
    assert TrainConfig(size=90_000_000).batch == 16384
    assert TrainConfig(size="9" * 400).batch > 1 << 20  # building it is an error, and not this
    own = TrainConfig(size="large", batch=4096, learning_rate=1e-3)
    assert (own.batch, own.learning_rate) == (4096, 1e-3)
    assert TrainConfig(base="someone/else").batch == TrainConfig(base="someone/else", tune="lora").batch == 8192


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"shard": "true", "optimizer": "adamw8bit"}, "8-bit AdamW cannot be sharded"),
        ({"merge": "true"}, "no adapters to merge"),
    ],
)
def test_keys_that_exclude_each_other(values, what):
    with pytest.raises(UsageError, match=what):
        TrainConfig.load(None, [f"{key}={value}" for key, value in values.items()])


def test_how_a_model_is_saved_does_not_change_what_is_learned():
    plain = TrainConfig(base="x", tune="lora")
    other = TrainConfig(base="x", tune="lora", recompute=True, merge=True, saved_precision="bfloat16")
    assert plain.fingerprint() == other.fingerprint()
