"""How a model is trained: one strict config, from a YAML file, from flags, or from the defaults written here."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class Config(BaseModel):
    """A training. Unknown keys are refused; what it comes to is saved with the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str | None = None
    """Folder or Hugging Face id of a causal language model to go on from; without one, training starts from scratch."""
    size: str = "tiny"
    """Of a model from scratch: `tiny`, `small`, …, or a number of parameters such as `124M`."""
    tune: Literal["full", "lora", "qlora"] = "full"
    """What of the base is trained: all weights, adapters of low rank, or those over weights in 4 bits (CUDA only)."""
    lora_rank: Count = 16
    lora_alpha: Positive = 32.0
    """The adapters' output is scaled by alpha / rank."""
    lora_dropout: Share = 0.0

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
    """Tokens of a step, at least: it ends where a row ends."""
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
    """`muon` is Muon for the matrices between layers and AdamW for the rest."""
    learning_rate: Positive = 1e-2
    """At its highest."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Of matrices, per unit of learning rate."""
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

    seed: Annotated[int, Field(ge=0)] = 0
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [key for key in ("minutes", "steps", "epochs", "tokens") if getattr(self, key) is not None]
        if len(given) > 1:
            what = f"one budget may be given, not {' and '.join(given)}"
            raise ValueError(what)
        if self.tune != "full" and self.base is None:
            what = f"tune: {self.tune} needs a base model"
            raise ValueError(what)
        return self

    def sha(self) -> str:
        """Hash of everything that decides what is learned: a checkpoint of another training is not gone on with.

        What only says where and how often it is written down (`tensorboard`, `checkpoint_minutes`) is left out.
        """
        values: dict[str, Any] = self.model_dump(exclude={"tensorboard", "checkpoint_minutes"})
        return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()
