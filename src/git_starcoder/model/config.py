"""How a model is trained: one strict config, from a YAML file, from flags, or from the defaults written here."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from git_starcoder import strict_yaml
from git_starcoder.errors import UsageError
from git_starcoder.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails


def _whole(value: Any) -> Any:
    """A number without a fraction as a whole one: `1e9` is a number of tokens."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _name(value: Any) -> Any:
    """`size: 124000000` is a size, too."""
    return str(_whole(value)) if type(value) in {int, float} else value


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=10**15)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
BUDGET_KEYS = ("minutes", "steps", "epochs", "tokens")
"""Keys of which one may be given."""
BASE_MODEL_DEFAULTS = {"optimizer": "adamw", "learning_rate": 2e-5, "weight_decay": 0.1}
"""Defaults where a whole base is trained: usual ones, measured on nothing of ours."""
ADAPTER_DEFAULTS = {"optimizer": "adamw", "learning_rate": 2e-4, "weight_decay": 0.0}
"""Defaults of adapters: those of the literature (Hu et al., 2021; Dettmers et al., 2023)."""
LONGEST = 200
"""Characters of a value or of a reason that an error shows."""


class Strict(BaseModel):
    """Keys and values, of which none is unknown and none of another kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def of(cls, values: Mapping[str, Any], places: Mapping[str, str]) -> Self:
        """What values make, each of which was said at a place.

        Raises:
            UsageError: an unknown key, or a value that cannot be.

        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _told(error.errors(include_url=False)[0], list(cls.model_fields), places) from error


class TrainConfig(Strict):
    """A training. Unknown keys are refused; what it comes to is saved with the model."""

    base: str | None = None
    """Folder or Hugging Face id of a causal language model to go on from; without one, training starts from scratch."""
    size: Annotated[str, BeforeValidator(_name)] = "tiny"
    """Of a model from scratch: `tiny`, `small`, …, or a number of parameters such as `124M`."""
    tune: Literal["full", "lora", "qlora"] = "full"
    """What of the base is trained: all weights, adapters of low rank, or those over weights in 4 bits (CUDA only)."""
    lora_rank: Count = 16
    """Of the adapters."""
    lora_alpha: Positive = 32.0
    """The adapters' output is scaled by alpha / rank."""
    lora_dropout: Share = 0.0
    """Of what goes into the adapters."""

    minutes: Positive | None = None
    """Budget of time: how many steps fit in is measured once, before the first. One budget may be given; without any
    it is 8 minutes."""
    steps: Count | None = None
    """Budget of steps."""
    epochs: Positive | None = None
    """Budget of passes over the rows, each drawn as often as its weight says."""
    tokens: Count | None = None
    """Budget of tokens."""

    batch: Count = 2048
    """Tokens of a step, on average, or of the longest row where those are more: no row is cut."""
    piece: Count | None = None
    """Tokens that go through the network at once, at most; a step adds up the gradients of its pieces. Without a
    number, as many as a trial finds room for."""
    order: Literal["curriculum", "shuffled"] | None = None
    """As the dataset says, unless given. `shuffled` draws from all rows all the time: the control for a curriculum."""
    fim: Share = 0.0
    """Share of rows of whole text that are learned as prefix, suffix, middle (PSM or SPM), decided by their content."""
    attend: Literal["row", "piece"] = "row"
    """Whether a token attends to its own row only, or also to the rows packed before it."""

    optimizer: Literal["muon", "adamw"] = "muon"
    """`muon` is Muon for the matrices between layers and AdamW for the rest. On a base `adamw`, unless given."""
    learning_rate: Positive = 1e-2
    """At its highest. On a base 2e-5 where all of it is trained and 2e-4 for adapters, unless given."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Of matrices, per unit of learning rate. On a base 0.1, for adapters 0, unless given."""
    dropout: Share = 0.0
    """Of the attention weights of a model from scratch."""
    schedule: Literal["linear", "cosine", "wsd"] = "linear"
    """How the learning rate falls to zero after the warmup: in a straight line, along a cosine, or only in the last
    fifth (warmup, stable, decay)."""
    warmup: Share = 0.03
    """Share of the steps in which the learning rate rises."""
    clip: Positive = 1.0
    """Largest norm of the gradient."""
    ema: Share = 0.0
    """Decay per step of the moving average of the weights that is kept and asked about; 0: none."""
    patience: Count = 3
    """Looks at held-out text without a better one after which training ends early, if the last is clearly worse."""

    seed: Annotated[int, BeforeValidator(_whole), Field(ge=0, lt=1 << 63)] = 0
    """Of the first weights and of the order of rows."""
    device: Literal["cuda", "mps", "cpu"] | None = None
    """The best there is, unless given."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Of matrix products; the faster one that the device has, unless given."""
    compile: bool | None = None
    """Whether the network is compiled (`torch.compile`); on CUDA, unless given."""
    checkpoint_minutes: Positive = 5.0
    """Time between two checkpoints. Two are kept."""
    tensorboard: bool = False
    """Write TensorBoard files beside the metrics, too."""

    @model_validator(mode="before")
    @classmethod
    def _gently(cls, values: Any) -> Any:
        """What a base has learned would be lost at the rate from scratch."""
        if not isinstance(values, dict) or cast("dict[str, Any]", values).get("base") is None:
            return cast("Any", values)
        given = cast("dict[str, Any]", values)
        return {**(BASE_MODEL_DEFAULTS if given.get("tune", "full") == "full" else ADAPTER_DEFAULTS), **given}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [key for key in BUDGET_KEYS if getattr(self, key) is not None]
        if len(given) > 1:
            what = f"one budget may be given, not {' and '.join(given)}"
            raise ValueError(what)
        if self.tune != "full" and self.base is None:
            what = f"tune: {self.tune} needs a base model"
            raise ValueError(what)
        return self

    @classmethod
    def load(cls, path: Path | None = None, overrides: Sequence[str] = (), **flags: Any) -> Self:
        """The config of a YAML file, changed by `key=value` overrides and then by flags; a flag of None says nothing.

        A budget takes the place of the budget of what it overrides.

        Raises:
            UsageError: no such file, not YAML, an unknown key, or a value that cannot be.

        """
        given = read(path) if path else {}
        places = dict.fromkeys(given, str(path))
        asked = dict(map(_override, overrides))
        for values, place in (
            (asked, "--set {}"),
            ({key: value for key, value in flags.items() if value is not None}, "--{}"),
        ):
            if any(values.get(key) is not None for key in BUDGET_KEYS):
                given = {key: value for key, value in given.items() if key not in BUDGET_KEYS}
            given |= values
            places |= {key: place.format(key) for key in values}
        return cls.of(given, places)

    def to_yaml(self) -> str:
        """All keys as a YAML file that `load` reads."""
        return strict_yaml.dump(self.model_dump())

    def fingerprint(self) -> str:
        """Hash of everything that decides what is learned: a checkpoint of another training is not gone on with.

        What only says where and how often it is written down (`tensorboard`, `checkpoint_minutes`) is left out.
        """
        values: dict[str, Any] = self.model_dump(exclude={"tensorboard", "checkpoint_minutes"})
        return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def parsed(text: str, where: str) -> Any:
    """The value of a YAML text.

    Raises:
        UsageError: not YAML.

    """
    try:
        return strict_yaml.load(text)
    except strict_yaml.NotYamlError as error:
        raise UsageError(f"not YAML: {error}", where=where) from error


def read(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        UsageError: no such file, or something else in it.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}", where="--config") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"'{path}' is not text: {error}", where="--config") from error
    values = parsed(text, str(path))
    if not isinstance(values, dict | None):
        raise UsageError(f"'{path}' is not a mapping of keys to values", where="--config")
    return {str(key): value for key, value in cast("dict[Any, Any]", values or {}).items()}


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not (equals and key):
        raise UsageError(f"'{text}' is not key=value", where="--set", hint="for example --set weight_decay=0.5")
    return key, parsed(value, f"--set {key}")


def _told(error: ErrorDetails, known: list[str], places: Mapping[str, str]) -> UsageError:
    """What pydantic found wrong, as one clear line."""
    if not error["loc"]:  # found by a validator of the whole, which names the keys
        what = error["msg"].removeprefix("Value error, ")
        named = [place for key, place in places.items() if re.search(rf"\b{re.escape(key)}\b", what)]
        return UsageError(what, where=", ".join(dict.fromkeys(named)))
    key = str(error["loc"][0])
    place = places.get(key, "")
    if error["type"] == "extra_forbidden":
        return UsageError(f"unknown key '{key}'", where=place, hint=suggest(key, known))
    wanted = error["msg"].removeprefix("Input should be ")
    value = error["input"]
    choices = re.findall(r"'([^']*)'", wanted)
    hint = suggest(value, choices) if choices and isinstance(value, str) else ""
    where = place if place.startswith("--") else f"{place}, {key}"
    return UsageError(f"'{key}' is {_shown(value)} and should be {wanted}", where=where, hint=hint)


def _shown(value: Any) -> str:
    if isinstance(value, str | float | None) or (isinstance(value, int) and value.bit_length() < 64):
        return repr(value)[:LONGEST]
    return f"a {type(value).__name__}"
