"""Defines the training config: one strict set of keys, from a YAML file, from flags, or from the defaults here."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from hashlib import blake2b
from math import log2
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from msgspec import UNSET, Meta

from git_starcoder import strict_config
from git_starcoder.bases import find_base
from git_starcoder.strict_config import (
    InvalidValueError,
    Off,
    Places,
    PositiveFloat,
    StrictConfig,
    from_values,
    parse_override,
    read_mapping,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Count = Annotated[int, Meta(ge=1, le=10**15)]
"""A number of tokens, steps or rows. The limit keeps products of two counts within 64 bits."""
Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
ShareBelowOne = Annotated[float, Meta(ge=0, lt=1)]
PARAMETER_COUNT = re.compile(r"(\d+(?:\.\d+)?)([KMB]?)", re.IGNORECASE)
"""A number of parameters, such as 124M."""
COUNT_SUFFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9}
SIZE_PARAMETERS = {"tiny": 4e6, "small": 28e6, "medium": 90e6, "large": 350e6, "huge": 1e9}
"""Parameters of the named sizes with a vocabulary of 4,096, about."""
BUDGET_KEYS = ("minutes", "steps", "epochs", "tokens")
"""Keys of which at most one may be set."""
SCRATCH_DEFAULTS: dict[str, Any] = {
    "optimizer": "muon", "learning_rate": 1e-2, "embedding_rate": 3.0, "weight_decay": 1.0, "batch": 2048,
}  # fmt: skip
"""Defaults where a model of up to `tiny` is trained from scratch, measured by us. `scale_to_size` has larger ones."""
MAX_GROWTH = 1e6
"""Beyond that, a size is no model that anybody trains, and an error says so."""
RATE_EXPONENT = -0.25
BATCH_EXPONENT = 0.654
"""By which powers of the parameters rate and batch change. For a compute of C operations, the best rate is proportional
to C^-0.125 and the best batch to C^0.327 (DeepSeek LLM, Bi et al., 2024, section 3.1), and the compute that suits N
parameters is proportional to N² (Hoffmann et al., 2022). Of larger models we have measured neither."""
OWN_BASE_DEFAULTS: dict[str, Any] = {
    "optimizer": "muon", "learning_rate": None, "embedding_rate": 3.0, "weight_decay": 1.0, "batch": 2048,
}  # fmt: skip
"""Defaults where all weights of a bundled base are trained: as from scratch, with a learning rate that suits the size
of the dataset (`own_base_rate`). The budget is the same as from scratch, however large the repository is: training ends
early where the validation loss rises."""
BASE_MODEL_DEFAULTS: dict[str, Any] = {
    "optimizer": "adamw", "learning_rate": 2e-5, "embedding_rate": 1.0, "weight_decay": 0.1, "batch": 8192,
}  # fmt: skip
"""Defaults where all weights of another base model are trained: usual values, not measured by us. The rate from scratch
would destroy what the base model has learned. The batch is that of adapters."""
ADAPTER_DEFAULTS: dict[str, Any] = {
    "optimizer": "adamw", "learning_rate": 2e-4, "embedding_rate": 1.0, "weight_decay": 0.0, "batch": 8192,
}  # fmt: skip
"""Defaults of adapters, from the literature (Hu et al., 2021; Dettmers et al., 2023). The batch is that of the latter:
16 rows of at most 512 tokens, where our rows of 4,096 tokens would otherwise be steps of one row."""
OWN_BASE_RATES = 3e-4, 3e-3
"""The lowest and the highest learning rate for a bundled base."""
OWN_BASE_RATE_PER_TOKEN = 4e-9
"""The learning rate between them, as a multiple of the training tokens."""
DEFAULT_FIM_SHARE = 0.3
"""Share of fill-in-the-middle rows where a model is trained on natural text."""
DEFAULT_ROPE_BASE = 50_000.0
"""Default of `rope_base`."""
_BY_BASE: Any = UNSET
"""Stands for the default of the keys above until it is known which of the tables holds."""


def own_base_rate(tokens: float) -> float:
    """The learning rate for a bundled base and a dataset of so many training tokens, with two digits.

    A small repository is soon learned by heart, and then a high rate only makes the model forget. For example, 250,000
    tokens have 1e-3, and 750,000 or more 3e-3. `benchmarks/rates.py` measured it (`docs/benchmarks.md`).
    """
    low, high = OWN_BASE_RATES
    return float(f"{min(high, max(low, OWN_BASE_RATE_PER_TOKEN * tokens)):.1e}")


def named_parameters(size: str) -> float | None:
    """The parameters that a `size` stands for, about; None if there is no such size."""
    if match := PARAMETER_COUNT.fullmatch(size):
        return float(match[1]) * COUNT_SUFFIXES[match[2].upper()]
    return SIZE_PARAMETERS.get(size)


def scale_to_size(size: str) -> dict[str, Any]:
    """The defaults from scratch for a size, whose rate and batch follow from those of `tiny` if it is larger.

    Rates have two digits and batches are powers of two: 28M parameters have 6.1e-3 and 8,192 tokens, 90M 4.6e-3 and
    16,384, 350M 3.3e-3 and 32,768, and 1B 2.5e-3 and 65,536. The batch follows the model and not the device. How much
    of it a device computes at once (`micro_batch`) follows the device.
    """
    growth = min(max(1.0, (named_parameters(size) or 0.0) / SIZE_PARAMETERS["tiny"]), MAX_GROWTH)
    rate = float(f"{SCRATCH_DEFAULTS['learning_rate'] * growth**RATE_EXPONENT:.1e}")
    batch = 1 << round(log2(SCRATCH_DEFAULTS["batch"] * growth**BATCH_EXPONENT))
    return SCRATCH_DEFAULTS | {"learning_rate": rate, "batch": batch}


@dataclass(frozen=True, slots=True)
class TrainConfig(StrictConfig):
    """How a model is trained. The complete config is saved with the model."""

    base: str | None = None
    """The model from which training starts: the name of a base (`git starcoder base list`), or the folder or the
    Hugging Face id of a causal language model. null trains from scratch."""
    size: str = "tiny"
    """Size of a model from scratch: `tiny`, `small`, …, or a number of parameters such as `124M`."""
    rope_base: PositiveFloat = DEFAULT_ROPE_BASE
    """Base of the rotary positions of a model from scratch: a larger one lets attention reach farther back."""
    tune: Literal["full", "lora", "qlora"] = "full"
    """How a base model is trained. `full` trains all weights, `lora` only low-rank adapters. `qlora` also trains
    adapters, with the base weights stored in 4 bits (on CUDA and CPU, extra `bitsandbytes`)."""
    lora_rank: Count = 16
    """Rank of the adapters."""
    lora_alpha: PositiveFloat = 32.0
    """The output of the adapters is scaled by alpha / rank."""
    lora_dropout: Annotated[ShareBelowOne, Off(0.0)] = 0.0
    """Dropout rate of the adapters' input."""
    merge: bool = False
    """Whether adapters are also merged into the weights of the base, after they were written. A model that is not
    merged has the size of its adapters, and needs its base when it is used."""

    minutes: PositiveFloat | None = None
    """Time budget. The number of steps that fit is measured once, before the first step. Set at most one of the four
    budgets; if none is set, the budget is 8 minutes."""
    steps: Count | None = None
    """Budget as a number of optimizer steps."""
    epochs: PositiveFloat | None = None
    """Budget in epochs. In an epoch, a row of weight 2 is drawn twice as often as a row of weight 1."""
    tokens: Count | None = None
    """Budget as a number of tokens."""

    batch: Count = _BY_BASE
    """Average number of tokens in an optimizer step. Rows are never cut, so a step has at least the tokens of the
    longest row. The default is 2,048 from scratch and from a bundled base, more for sizes above `tiny` (16,384 for
    `medium`), and 8,192 for other base models and for adapters."""
    micro_batch: Count | None = None
    """Size limit of a micro-batch, in tokens. A step adds up the gradients of its micro-batches. If null, a batch-size
    search finds the largest fast size that fits into memory."""
    order: Literal["curriculum", "shuffled"] | None = None
    """Order of the training rows. `curriculum` draws from one stage of the dataset at a time. `shuffled` always draws
    from all rows. null uses the order of the dataset."""
    fim: Annotated[ShareBelowOne | None, Off(0.0)] = None
    """Share of plain rows that become fill-in-the-middle rows during training. The layout of such a row is
    prefix-suffix-middle (PSM) or suffix-prefix-middle (SPM); a hash of the row selects it. Half of the middles are
    syntax nodes. null is 0.3 if the rows have headers, as with the default recipe, and the tokenizer has the tokens
    for it; otherwise it is 0."""
    shift_windows: Annotated[bool, Off(False)] = True
    """Whether windows that do not overlap begin at other places of their file in every pass."""
    context_tokens: Annotated[int, Meta(ge=0, le=10**9), Off(0)] = 0
    """The most tokens of other files that are shown before a file: of files that it imports or resembles. 0 shows none.
    The rows need headers, as those of the default recipe have."""
    context_dropout: ShareBelowOne = 0.25
    """Share of the draws of a row that show no other files, if `context_tokens` is not 0."""
    noise: Annotated[ShareBelowOne, Off(0.0)] = 0.0
    """Share of the input tokens that are replaced by random tokens during training. The targets stay."""
    attend: Annotated[Literal["row", "micro_batch"], Off("row")] = "row"
    """What a token attends to: only its own row, or also the rows packed before it in the micro-batch."""

    optimizer: Literal["muon", "adamw", "adamw8bit"] = _BY_BASE
    """`muon` trains the inner weight matrices with Muon and all other weights with AdamW. `adamw8bit` is AdamW with 8
    bits for each number of its state, on CUDA and CPU (extra `bitsandbytes`). The default is `muon` from scratch and
    from a bundled base, and `adamw` for other base models and for adapters."""
    learning_rate: PositiveFloat | None = _BY_BASE
    """Peak learning rate. The default is 1e-2 from scratch, less for sizes above `tiny` (4.6e-3 for `medium`), 2e-5 for
    all weights of another base model, and 2e-4 for adapters. null, the default for all weights of a bundled base, is
    3e-4 to 3e-3, the more the larger the dataset is. For other trainings, null is not allowed."""
    embedding_rate: Annotated[PositiveFloat, Off(1.0)] = _BY_BASE
    """The learning rate of embeddings and norms, as a multiple of `learning_rate`. The default is 3 from scratch and
    from a bundled base, and 1 for other base models and for adapters."""
    weight_decay: Annotated[float, Meta(ge=0), Off(0.0)] = _BY_BASE
    """Weight decay of matrices except embeddings: in each step they shrink by this value times the learning rate. The
    default is 1 from scratch and from a bundled base, 0.1 for all weights of another base model, and 0 for adapters."""
    decay_epochs: PositiveFloat | None = None
    """The number of epochs after which weight decay alone would shrink a weight to 1/e, at the peak learning rate. If
    set, `weight_decay` follows from it."""
    dropout: Annotated[ShareBelowOne, Off(0.0)] = 0.0
    """Dropout rate of what attention and feed-forward layers add to the residual stream, from scratch and in a bundled
    base. In another base model, it replaces all rates that are not 0 in its configuration; dropout of attention is
    slow."""
    schedule: Literal["linear", "cosine", "wsd"] = "linear"
    """How the learning rate falls to zero after the warmup: linearly, along a cosine, or only in the last fifth
    (warmup, stable, decay)."""
    warmup: Annotated[ShareBelowOne, Off(0.0)] = 0.03
    """Share of the steps in which the learning rate rises from zero to its peak."""
    clip: PositiveFloat = 1.0
    """Gradient clipping: the largest norm that a gradient may have."""
    ema: Annotated[ShareBelowOne, Off(0.0)] = 0.0
    """Decay per step of a moving average of the weights. The average is validated and saved as the model. 0 turns it
    off."""
    patience: Count = 3
    """Training stops early after this many validations in a row without improvement, if the last is clearly worse."""

    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    """Random seed of the initial weights and of the order of rows."""
    device: Literal["cuda", "mps", "cpu"] | None = None
    """Device that trains the model. null selects the fastest one."""
    precision: Precision | None = None
    """Number format of matrix products. null selects the fastest one on the device: bfloat16, or float16 on GPUs before
    Ampere, which have no bfloat16. In float16 losses are scaled, and `shard` is not possible."""
    recompute: bool | None = None
    """Whether the backward pass computes the activations of each layer again, instead of storing them (gradient
    checkpointing). It takes a fraction of the memory and a third more time. null does so if the memory would not
    suffice otherwise."""
    saved_precision: Literal["float32", "bfloat16"] | None = None
    """Number format of the weights in the model folder. null is that of the base, and float32 from scratch."""
    compile: bool | None = None
    """Whether `torch.compile` compiles the network. null compiles it only on CUDA."""
    shard: bool = False
    """Whether several processes divide the weights, gradients and the state of the optimizer among them (FSDP2), for a
    model that does not fit into the memory of one device. Otherwise each process has all of them. It changes nothing
    for a single process, and a resumed training may have another value. Sharded networks are not compiled."""
    checkpoint_minutes: PositiveFloat = 5.0
    """Minutes between two checkpoints. The newest two checkpoints are kept."""
    tensorboard: bool = False
    """Whether TensorBoard files are written, in addition to the metrics."""

    def _fill_defaults(self) -> None:
        size: Any = self.size
        if type(size) in {int, float}:  # `size: 124000000` is a size, too
            object.__setattr__(self, "size", str(int(size) if float(size).is_integer() else size))
        for key, value in self._table_of_defaults().items():
            if getattr(self, key) is _BY_BASE:
                object.__setattr__(self, key, value)

    @property
    def peak_rate(self) -> float:
        """The learning rate of a config that knows its dataset (`training.resolve_rates`)."""
        if self.learning_rate is None:
            raise ValueError("the learning rate depends on the dataset")
        return self.learning_rate

    def _table_of_defaults(self) -> dict[str, Any]:
        if not isinstance(self.base, str):
            size: Any = self.size  # is checked later
            return scale_to_size(size) if isinstance(size, str) else SCRATCH_DEFAULTS
        if self.tune != "full":
            return ADAPTER_DEFAULTS
        return OWN_BASE_DEFAULTS if find_base(self.base) else BASE_MODEL_DEFAULTS

    def _check(self) -> None:
        budgets = tuple(key for key in BUDGET_KEYS if getattr(self, key) is not None)
        if len(budgets) > 1:
            raise InvalidValueError(f"only one budget may be set, not {' and '.join(budgets)}", budgets)
        if self.tune != "full" and self.base is None:
            raise InvalidValueError(f"tune: {self.tune} needs a base model", ("tune",), "set base")
        if self.shard and self.tune == "qlora":
            raise InvalidValueError("weights in 4 bits cannot be sharded", ("shard", "tune"), "tune: lora can")
        if self.shard and self.precision == "float16":
            what = "gradients in float16 cannot be sharded"
            raise InvalidValueError(what, ("shard", "precision"), "bfloat16 and float32 can")
        if self.shard and self.optimizer == "adamw8bit":
            keys = ("shard", "optimizer")
            raise InvalidValueError("the state of 8-bit AdamW cannot be sharded", keys, "optimizer: adamw can")
        if self.learning_rate is None and self._table_of_defaults()["learning_rate"] is not None:
            what = "learning_rate may be null only where all weights of a bundled base are trained"
            raise InvalidValueError(what, ("learning_rate",))
        if self.merge and self.tune == "full":
            raise InvalidValueError("there are no adapters to merge", ("merge", "tune"), "tune: lora trains adapters")
        if self.shard and self.compile:
            raise InvalidValueError("sharded networks cannot be compiled", ("shard", "compile"), "set one of them")

    @classmethod
    def load(cls, path: Path | None = None, overrides: Sequence[str] = (), **flags: Any) -> Self:
        """Load the config of a YAML file, changed by `key=value` overrides and then by flags.

        A flag of None is not set. A budget replaces the budget of what it overrides.

        Raises:
            UsageError: there is no such file, it is not YAML, a key is unknown, or a value is invalid.
        """
        values = read_mapping(path, f"'{path}'", f"--config {path}") if path else {}
        places = Places(str(path) if path else "")
        override_values: dict[str, Any] = {}
        for override in overrides:
            (key,), value = parse_override(override, "weight_decay=0.5", 1)
            override_values[key] = value
        flag_values = {key: value for key, value in flags.items() if value is not None}
        for changes, place in ((override_values, "--set {}"), (flag_values, "--{}")):
            if any(changes.get(key) is not None for key in BUDGET_KEYS):
                values = {key: value for key, value in values.items() if key not in BUDGET_KEYS}
            values |= changes
            places.of_keys.update({key: place.format(key) for key in changes})
        return from_values(cls, values, places)

    def to_yaml(self) -> str:
        """All keys as a YAML file that `load` reads."""
        return strict_config.dump(asdict(self))

    def fingerprint(self) -> str:
        """A hash of all keys that decide what is learned. A checkpoint with another fingerprint is not resumed.

        `tensorboard`, `checkpoint_minutes`, `merge` and `saved_precision` are left out, which decide only what is
        written and how often, and `shard` and `recompute`, which decide only where weights are, and when something is
        computed.
        """
        left_out = {"tensorboard", "checkpoint_minutes", "merge", "saved_precision", "shard", "recompute"}
        values = {key: value for key, value in asdict(self).items() if key not in left_out}
        return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()
