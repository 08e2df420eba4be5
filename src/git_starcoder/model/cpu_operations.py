"""Operations with gradients of their own, for a CPU. This module imports torch: import it where torch is loaded."""

# ruff: noqa: TID253
# pyright: basic, reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from git_starcoder.model import attention

PLAIN_NORMS = frozenset({"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"})
"""Classes of transformers that multiply normalised numbers by their weight. (Gemma's adds 1 to the weight.)"""

NORMS_BEFORE_PRODUCTS = frozenset({"input_layernorm", "post_attention_layernorm", "norm"})
"""Names of those norms of these models whose result goes into linear layers only. Under autocast, each of these layers
would round it, and widen its gradient again. The norm rounds it once."""


class BlockAttention(Function):
    """Causal attention of one segment, as plain products of matrices for blocks of queries.

    It takes queries, keys and values of shape (heads, tokens, width), the scale of the scores, the number of tokens
    that a query sees at most, or None, and the dropout rate of the weights. It takes half the time of torch's CPU
    kernel in bfloat16, and 0.8 of it in float32. Its memory is quadratic in the tokens.

    Autograd would give each block gradients of all keys and values, and add them up. Here, every block adds to its part
    of one gradient, which takes a quarter less time.
    """

    @staticmethod
    def forward(
        context: Any, query: Any, key: Any, value: Any, scale: float, window: int | None, dropout: float
    ) -> Any:
        """Compute the outputs, of the shape of the queries."""
        outputs, saved = torch.empty_like(query), []
        for begin, end, first in _query_blocks(query, window):
            # A block of queries 2 and 3 that see the keys 0 to 3 has the mask [[0 0 0 -inf] [0 0 0 0]].
            mask = query.new_full((end - begin, end - first), float("-inf")).triu(begin - first + 1)
            if window is not None:
                distance = begin - first - window
                mask += torch.full_like(mask, float("-inf")).tril(distance) if distance > -len(mask) else 0
            weights = torch.baddbmm(mask, query[:, begin:end], key[:, first:end].mT, alpha=scale).softmax(-1)
            saved.append(weights)
            if dropout:  # 0 where a weight is dropped, 1 / (1 - rate) elsewhere
                saved.append(torch.empty_like(weights).bernoulli_(1 - dropout).div_(1 - dropout))
                weights = weights * saved[-1]
            outputs[:, begin:end] = torch.bmm(weights, value[:, first:end])
        context.save_for_backward(query, key, value, *saved)
        context.settings = scale, window, dropout
        return outputs

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Any) -> tuple[Any, ...]:
        """Compute the gradients of queries, keys and values."""
        query, key, value, *saved = context.saved_tensors
        scale, window, dropout = context.settings
        of_query, of_key, of_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        softmax_gradient: Any = torch.ops.aten._softmax_backward_data  # noqa: SLF001
        remaining = iter(saved)
        for begin, end, first in _query_blocks(query, window):
            weights, of_output = next(remaining), gradient[:, begin:end]
            of_weights = torch.bmm(of_output, value[:, first:end].mT)
            used = weights
            if dropout:
                kept = next(remaining)
                used, of_weights = weights * kept, of_weights * kept
            of_scores = softmax_gradient(of_weights, weights, -1, weights.dtype).mul_(scale)
            of_query[:, begin:end] = torch.bmm(of_scores, key[:, first:end])
            of_key[:, first:end] += torch.bmm(of_scores.mT, query[:, begin:end])
            of_value[:, first:end] += torch.bmm(used.mT, of_output)
        return of_query, of_key, of_value, None, None, None


class CrossEntropy(Function):
    """Negative log-likelihoods in nats of targets, of shape (targets,), from logits of shape (targets, vocabulary).

    The loss of a negative target is 0. Torch computes exponentials forward and backward again, and fills a matrix with
    zeros for the gradient of the chosen places. Here, the forward pass leaves the gradient of every loss, in the number
    format of the logits, and the backward pass scales it: a quarter less time, and half the memory in bfloat16.
    """

    @staticmethod
    def forward(context: Any, logits: Any, targets: Any) -> Any:
        """Compute the losses in float32."""
        numbers, is_target, place = logits.float(), targets >= 0, targets.clamp(min=0)[:, None]
        probabilities = numbers.softmax(-1)
        # The largest probability is exp(0) / sum(exp(x - max x)). So with x = [1 3], 3 - log(largest probability) is
        # log(exp(1) + exp(3)). The loss of 1 is that minus 1, even if the probability of 1 is too small for a float.
        log_sum = logits.amax(-1).float() - probabilities.amax(-1).log_()
        losses = (log_sum - numbers.gather(1, place)[:, 0]) * is_target
        probabilities.scatter_add_(1, place, probabilities.new_full(place.shape, -1.0))
        context.save_for_backward(probabilities.to(logits.dtype), is_target)
        return losses

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Any) -> tuple[Any, ...]:
        """Compute the gradient of the logits: probabilities, less 1 at targets, times the gradients of the losses."""
        of_losses, is_target = context.saved_tensors
        return of_losses * (gradient * is_target)[:, None].to(of_losses.dtype), None


def _query_blocks(query: Any, window: int | None) -> list[tuple[int, int, int]]:
    """For each block of queries: the first one, the end, and the first key that one of them sees."""
    tokens, size = query.shape[1], max(1, attention.QUERY_BLOCK_BYTES // query.element_size())
    return [
        (begin, min(tokens, begin + size), 0 if window is None else max(0, begin + 1 - window))
        for begin in range(0, tokens, size)
    ]


class RootMeanSquareNorm(Function):
    """Numbers divided by their root mean square over the last dimension, times a weight (Zhang and Sennrich, 2019).

    It takes numbers of any shape, a weight for each place of the last dimension, what is added to the mean square, and
    the number format of the result. As single operations of torch, it takes two and a half times as long.
    """

    @staticmethod
    def forward(context: Any, numbers: Any, weight: Any, epsilon: float, dtype: Any = torch.float32) -> Any:
        """Compute the normalised numbers in float32, and round them to the number format."""
        numbers = numbers.float()
        norm = torch.linalg.vector_norm(numbers, dim=-1, keepdim=True)
        inverse = norm.square_().div_(numbers.shape[-1]).add_(epsilon).rsqrt_()
        context.save_for_backward(numbers, weight, inverse)
        return (numbers * inverse).mul_(weight).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Any) -> tuple[Any, ...]:
        """Compute the gradients of the numbers and of the weight.

        With n = x / rms(x) and g the gradient of n, the gradient of x is (g - n · mean(g · n)) / rms(x).
        """
        numbers, weight, inverse = context.saved_tensors
        normalized = numbers * inverse
        of_weight = (gradient * normalized).flatten(0, -2).sum(0) if context.needs_input_grad[1] else None
        of_normalized = gradient * weight
        projection = (of_normalized * normalized).mean(-1, keepdim=True)
        return normalized.mul_(projection).neg_().add_(of_normalized).mul_(inverse), of_weight, None, None


def replace_norms(model: Any) -> None:
    """Let the norms of a model of transformers use `RootMeanSquareNorm`, where they are the plain ones."""
    for name, module in model.named_modules():
        if type(module).__name__ in PLAIN_NORMS:
            module.forward = _NormForward(module, name.rpartition(".")[2] in NORMS_BEFORE_PRODUCTS)


class _NormForward:
    """The `forward` of one norm; not a closure, because models are copied."""

    def __init__(self, module: Any, is_before_products: bool) -> None:
        self.module = module
        self.is_before_products = is_before_products

    def __call__(self, numbers: Any) -> Any:
        if not torch.is_grad_enabled():  # half the time for a single token, and not as good for a backward pass
            weight = self.module.weight
            return torch.nn.functional.rms_norm(numbers.float(), weight.shape, weight, self.module.variance_epsilon)
        rounds = self.is_before_products and torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if rounds else torch.float32
        return RootMeanSquareNorm.apply(numbers, self.module.weight, self.module.variance_epsilon, dtype)
