"""Passes of one text through a small network of the kind that we train, without the modules of transformers.

A pass of one token through a network of five million weights takes some milliseconds, of which the products of matrices
are a small part: the rest is what modules and the cache do around them. Here a layer is some twenty operations of
torch. `open_passes` compares the predictions with those of transformers before it uses them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from git_starcoder.model.generation import NetworkPasses
from git_starcoder.model.room import make_room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.model.network import Network

KIND = "Qwen3ForCausalLM"
"""The class of the networks that `train` makes from scratch."""
MAX_WEIGHTS = 64_000_000
"""In larger networks, the products take most of the time, and a second copy of some weights would cost memory."""
CHECKED_TOKENS, TOLERANCE = 24, 1e-4
"""Tokens for which the predictions are compared, and the largest difference of a probability."""


class Passes(Protocol):
    """What `write_with_drafts` needs: a text that a network reads, and what it has computed of it."""

    @property
    def can_forget(self) -> bool:
        """Whether the last tokens can be taken back."""
        ...

    def tokens(self) -> NDArray[np.int64]:
        """Return the tokens that were read."""
        ...

    def read(self, texts: Sequence[Sequence[int]], *, is_prompt: bool = False) -> NDArray[np.float32]:
        """Read the next tokens of one text. See `NetworkPasses.read`."""
        ...

    def forget(self, count: int) -> None:
        """Take back the last tokens."""
        ...


class _Layer(NamedTuple):
    """The weights of a layer: products of the same input are one product."""

    first_norm: Any
    query_key_value: Any
    query_norm: Any
    key_norm: Any
    output: Any
    second_norm: Any
    gate_up: Any
    down: Any


class LeanNetwork:
    """A network with its weights arranged for passes of few tokens."""

    def __init__(self, network: Network) -> None:
        """Arrange the weights of a network of the kind `KIND`."""
        torch, model, config = network.torch, network.model, network.model.config
        self.network = network
        self.heads, self.shared_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = config.head_dim
        self.epsilon = config.rms_norm_eps
        body = model.get_decoder()
        with torch.inference_mode():
            self.layers = [
                _Layer(
                    layer.input_layernorm.weight,
                    torch.cat([each.weight for each in (own.q_proj, own.k_proj, own.v_proj)]),
                    own.q_norm.weight,
                    own.k_norm.weight,
                    own.o_proj.weight,
                    layer.post_attention_layernorm.weight,
                    torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]),
                    layer.mlp.down_proj.weight,
                )
                for layer in body.layers
                for own in (layer.self_attn,)
            ]
            self.embedding, self.last_norm = body.embed_tokens.weight, body.norm.weight
            self.head = model.get_output_embeddings().weight
            positions = torch.arange(config.max_position_embeddings)[None]
            # Of shape (tokens, 1, width): the same for all heads.
            self.cosine, self.sine = (
                table[0][:, None].clone() for table in body.rotary_emb(self.embedding[:1, None], positions)
            )

    @classmethod
    def of(cls, network: Network) -> Self | None:
        """Arrange a network; None if it is of another kind, or too large to gain anything."""
        model, config = network.model, network.model.config
        if type(model).__name__ != KIND or network.device != "cpu" or network.precision != "float32":
            return None
        has_plain_layers = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        weights = list(model.parameters())
        is_plain = (
            has_plain_layers
            and not config.attention_bias
            and config.hidden_act == "silu"
            and config.rope_parameters.get("rope_type", "default") == "default"
            and {weight.dtype for weight in weights} == {network.torch.float32}
            and {type(module).__name__ for module in model.modules() if hasattr(module, "in_features")} == {"Linear"}
        )
        return cls(network) if is_plain and sum(weight.numel() for weight in weights) <= MAX_WEIGHTS else None


class LeanPasses:
    """Passes of one text. It implements the protocol `Passes`."""

    can_forget = True

    def __init__(self, lean: LeanNetwork) -> None:
        self._lean = lean
        self._tokens: list[int] = []
        torch = lean.network.torch
        empty = torch.empty((2, len(lean.layers), 1, lean.shared_heads, 0, lean.width))
        self._keys, self._values = empty
        """Shape (layers, 1, heads, room, width); the first `len(self._tokens)` places are used."""

    def tokens(self) -> NDArray[np.int64]:
        """Return the tokens that were read."""
        return np.array(self._tokens, dtype=np.int64)

    def forget(self, count: int) -> None:
        """Take back the last tokens."""
        del self._tokens[len(self._tokens) - count :]

    def read(self, texts: Sequence[Sequence[int]], *, is_prompt: bool = False) -> NDArray[np.float32]:
        """Read the next tokens of one text. See `NetworkPasses.read`."""
        (text,) = texts
        lean, torch, functional = self._lean, self._lean.network.torch, self._lean.network.torch.nn.functional
        start, count = len(self._tokens), len(text)
        end = start + count
        if end > self._keys.shape[-2]:
            self._keys = make_room(self._keys, start, end)
            self._values = make_room(self._values, start, end)
        heads, shared, width = lean.heads, lean.shared_heads, lean.width
        cosine, sine = lean.cosine[start:end], lean.sine[start:end]
        mask = None
        if start and count > 1:  # a query sees all earlier tokens, and of the new ones those up to its own
            mask = torch.ones((count, end), dtype=torch.bool).tril(start)
        states = lean.embedding[torch.tensor(text)]
        for index, layer in enumerate(lean.layers):
            normed = functional.rms_norm(states, (states.shape[-1],), layer.first_norm, lean.epsilon)
            mixed = functional.linear(normed, layer.query_key_value).view(count, heads + 2 * shared, width)
            query, key, value = mixed.split((heads, shared, shared), 1)
            query = functional.rms_norm(query, (width,), layer.query_norm, lean.epsilon)
            key = functional.rms_norm(key, (width,), layer.key_norm, lean.epsilon)
            query, key = _rotate(torch, query, cosine, sine), _rotate(torch, key, cosine, sine)
            self._keys[index, 0, :, start:end] = key.transpose(0, 1)
            self._values[index, 0, :, start:end] = value.transpose(0, 1)
            attended = functional.scaled_dot_product_attention(
                query.transpose(0, 1)[None], self._keys[index, :, :, :end], self._values[index, :, :, :end],
                attn_mask=mask, is_causal=mask is None and count > 1, enable_gqa=heads != shared,
            )  # fmt: skip
            states = states + functional.linear(attended[0].transpose(0, 1).reshape(count, -1), layer.output)
            normed = functional.rms_norm(states, (states.shape[-1],), layer.second_norm, lean.epsilon)
            gate, up = functional.linear(normed, layer.gate_up).chunk(2, -1)
            states = states + functional.linear(functional.silu(gate) * up, layer.down)
        self._tokens += text
        states = states[-1:] if is_prompt else states
        states = functional.rms_norm(states, (states.shape[-1],), lean.last_norm, lean.epsilon)
        logits = functional.linear(states, lean.head)
        logits[:, lean.network.suppressed_tokens] = -torch.inf
        probabilities: NDArray[np.float32] = logits.softmax(-1)[None].numpy()
        return probabilities


def _rotate(torch: Any, numbers: Any, cosine: Any, sine: Any) -> Any:
    """Rotary positions (Su et al., 2021) of numbers of shape (tokens, heads, width)."""
    first, second = numbers.chunk(2, -1)
    return torch.addcmul(numbers * cosine, torch.cat((-second, first), -1), sine)


class PassFactory:
    """Opens passes of a network: lean ones if they predict the same."""

    def __init__(self, network: Network) -> None:
        self._network = network
        with network.torch.inference_mode():
            lean = LeanNetwork.of(network)
            self._lean = lean if lean is not None and self._is_equal(lean) else None

    @property
    def is_lean(self) -> bool:
        """Whether the passes do without the modules of transformers."""
        return self._lean is not None

    def open(self) -> Passes:
        """Begin a text."""
        return LeanPasses(self._lean) if self._lean is not None else NetworkPasses(self._network, 1)

    def _is_equal(self, lean: LeanNetwork) -> bool:
        """Whether both predict the same for some tokens, which are read as prompts, drafts and single tokens are."""
        self._network.model.eval()
        tokens = [token * 7 % self._network.vocab_size for token in range(CHECKED_TOKENS)]
        found: list[NDArray[np.float32]] = []
        for passes in (LeanPasses(lean), NetworkPasses(self._network, 1)):
            parts = [passes.read([tokens[: CHECKED_TOKENS // 2]], is_prompt=True)]
            parts.append(passes.read([tokens[CHECKED_TOKENS // 2 :]]))
            passes.forget(CHECKED_TOKENS // 4)
            parts.append(passes.read([tokens[:1]]))
            found.append(np.concatenate(parts, 1))
        return bool(np.abs(found[0] - found[1]).max() <= TOLERANCE)
