"""The arms of a comparison: a recipe and a training config each, and the features that can be switched off.

A feature is a key of a recipe or of a training config whose declaration names the value that switches it off
(`strict_config.Off`), if it has another value. All keys of a section are one feature if the section says so, as the
factors of the weights do. Each augmentation of a recipe is a feature.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from git_starcoder import registry, strict_config
from git_starcoder.bases import find_base
from git_starcoder.errors import UsageError
from git_starcoder.model.config import DEFAULT_FIM_SHARE, TrainConfig
from git_starcoder.recipe import AugmentationOptions, Recipe
from git_starcoder.stages.window import resolve_sizes
from git_starcoder.strict_config import field_types, off_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TRAIN_PREFIX = "train."
"""What the name of a feature of the training begins with."""
AUGMENT = "augment"
HEADER = "window.header"
ARM_KEYS = ("recipe", "set", "train", "seed")
"""The keys of an arm in a file of arms."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the things that are compared: a recipe and how a model is trained on its dataset."""

    name: str
    recipe: Recipe
    config: TrainConfig
    """Its budget is a number of tokens."""
    first_seed: int = 0

    def with_seed(self, number: int) -> tuple[Recipe, TrainConfig]:
        """Return recipe and config of the training with a number, counted from 0. Both have another seed in each."""
        offset = self.first_seed + number
        config = replace(self.config, seed=self.config.seed + offset)
        return replace(self.recipe, seed=self.recipe.seed + offset), config


@dataclass(frozen=True, slots=True)
class ArmOptions:
    """What all arms of a comparison have in common."""

    overrides: tuple[str, ...] = ()
    """Keys of the recipe, such as `window.size=512`."""
    training: tuple[str, ...] = ()
    """Keys of the training, such as `fim=0`."""
    tokens: float = 400_000
    """The budget of each training."""
    base: str | None = None
    """The base that training starts from; None trains from scratch."""
    size: str = "tiny"
    """The size of a model from scratch."""

    def make_arm(
        self, name: str, recipe: str, overrides: Sequence[str] = (), training: Sequence[str] = (), first_seed: int = 0
    ) -> Arm:
        """Return an arm of a recipe with keys of its own, which go before the common ones.

        Raises:
            RecipeError: There is no such recipe, or a key of it is wrong.
            UsageError: A key of the training is wrong.
        """
        start = f"size={self.size}" if self.base is None else f"base={json.dumps(self.base)}"
        config = TrainConfig.load(None, (start, *self.training, *training), tokens=self.tokens)
        loaded = Recipe.load(recipe, (*self.overrides, *overrides))
        if self.base is not None and find_base(self.base) and loaded.window.tokenizer == "learn":
            loaded = replace(loaded, window=replace(loaded.window, tokenizer=self.base))
        return Arm(name, loaded, config, first_seed)


def read_arms(path: Path, options: ArmOptions) -> list[Arm]:
    """Read a YAML file of arms: `NAME: {recipe: NAME, set: [KEY=VALUE], train: [KEY=VALUE], seed: N}`.

    All keys but `recipe` may be left out. `seed` is the first seed of the arm.

    Raises:
        UsageError: It is no such file.
    """
    arms: list[Arm] = []
    for name, values in strict_config.read_mapping(path, "the file of arms", str(path)).items():
        known = cast("dict[str, Any]", values) if isinstance(values, dict) else {}
        if unknown := [key for key in known if key not in ARM_KEYS]:
            hint = registry.suggest(unknown[0], list(ARM_KEYS))
            raise UsageError(f"arm '{name}' has the unknown key '{unknown[0]}'", where=str(path), hint=hint)
        lists = [known.get(key, []) for key in ("set", "train")]
        is_valid = isinstance(known.get("recipe"), str) and type(known.get("seed", 0)) is int
        if not is_valid or not all(isinstance(each, list) for each in lists):
            hint = "for example `short: {recipe: natural, set: [window.size=512], train: [fim=0], seed: 0}`"
            raise UsageError(f"arm '{name}' is not a mapping with a recipe", where=str(path), hint=hint)
        overrides, training = ([str(item) for item in each] for each in lists)
        arms.append(options.make_arm(name, known["recipe"], overrides, training, known.get("seed", 0)))
    return arms


def list_features(arm: Arm) -> list[str]:
    """Return the names of all features of an arm that are on, in the order of the keys."""
    names = [*_recipe_features(arm.recipe), *_training_features(arm)]
    whole = _content(arm)
    return [name for name in names if _content(_switch_off(arm, name)) != whole]


def without(arm: Arm, feature: str) -> Arm:
    """Return an arm with a feature or a section switched off.

    Raises:
        UsageError: The arm has no such feature, or it is off already.
    """
    features = list_features(arm)
    sections = [section for section, kind in field_types(Recipe).items() if section == AUGMENT or is_dataclass(kind)]
    if feature not in features and not any(name.startswith(f"{feature}.") for name in features):
        keys = [key for key in features if not key.startswith(feature)]
        if not (feature in sections or _exists(feature)):
            what, hint = f"'{feature}' is not a feature", registry.suggest(feature, features)
        else:
            what, hint = f"'{feature}' is not on in arm '{arm.name}'", f"on are: {', '.join(keys)}"
        raise UsageError(what, where="--without", hint=hint)
    return _switch_off(arm, feature)


def ablate(arm: Arm) -> list[Arm]:
    """Return an arm for each feature of an arm, with this feature switched off."""
    return [_switch_off(arm, feature) for feature in list_features(arm)]


def _content(arm: Arm) -> tuple[str, str]:
    """What decides the results of an arm, besides its seeds."""
    return resolve_sizes(arm.recipe).fingerprint(), arm.config.fingerprint()


def _recipe_features(recipe: Recipe) -> Iterator[str]:
    for section, kind in field_types(Recipe).items():
        if section == AUGMENT:
            off = off_values(AugmentationOptions)
            yield from (
                f"{section}.{name}"
                for name, options in recipe.augment.items()
                if all(getattr(options, key) != value for key, value in off.items())
            )
        elif is_dataclass(kind):
            options = getattr(recipe, section)
            keys = [key for key, off in off_values(cast("type", kind)).items() if getattr(options, key) != off]
            if keys and options.IS_ONE_FEATURE:
                yield section
            else:
                yield from (f"{section}.{key}" for key in keys)


def _training_features(arm: Arm) -> Iterator[str]:
    window = arm.recipe.window
    idle: set[str] = set()
    if arm.config.fim is None and window.header is None:
        idle.add("fim")  # the default is on only where rows have headers
    if window.overlap:
        idle.add("shift_windows")  # windows that overlap are never shifted
    for key, off in off_values(TrainConfig).items():
        if key not in idle and getattr(arm.config, key) != off:
            yield TRAIN_PREFIX + key


def _switch_off(arm: Arm, feature: str) -> Arm:
    name = f"without {feature}"
    section, _, key = feature.partition(".")
    if feature.startswith(TRAIN_PREFIX):
        return replace(arm, name=name, config=replace(arm.config, **{key: off_values(TrainConfig)[key]}))
    if section == AUGMENT:
        kept = {other: options for other, options in arm.recipe.augment.items() if key and other != key}
        return replace(arm, name=name, recipe=replace(arm.recipe, augment=kept))
    if feature == HEADER and arm.config.fim is None and _has_our_tokenizer(arm):
        # Without headers, the default of `fim` is 0, which would be a second difference.
        arm = replace(arm, config=replace(arm.config, fim=DEFAULT_FIM_SHARE))
    options: Any = getattr(arm.recipe, section)
    off = {each: value for each, value in off_values(cast("type[Any]", type(options))).items() if key in {"", each}}
    return replace(arm, name=name, recipe=replace(arm.recipe, **{section: replace(options, **off)}))


def _has_our_tokenizer(arm: Arm) -> bool:
    """Whether the tokenizer is certain to have tokens for fill-in-the-middle rows."""
    tokenizer = arm.recipe.window.tokenizer
    return tokenizer == "learn" or find_base(tokenizer) is not None


def _exists(feature: str) -> bool:
    """Whether a key has a value that switches it off, whatever the recipe."""
    section, _, key = feature.partition(".")
    if section == AUGMENT:
        return key in registry.names("augmentations")
    kind = TrainConfig if feature.startswith(TRAIN_PREFIX) else field_types(Recipe).get(section)
    return is_dataclass(kind) and key in off_values(cast("type", kind))
