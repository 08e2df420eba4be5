"""Our own operations against those of torch and transformers."""

import pytest

torch = pytest.importorskip("torch")
from git_starcoder.model import attention, cpu_operations  # noqa: E402


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(attention, "QUERY_BLOCK_BYTES", 64)


def parts(tokens):
    torch.manual_seed(tokens)
    return [torch.randn(2, tokens, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("tokens", [5, 8, 21])
@pytest.mark.parametrize("window", [None, 3, 13, 40])
def test_attention_is_torchs(tokens, window):
    places = torch.arange(tokens)
    distance = places[:, None] - places
    mask = (distance >= 0) & (distance < (window or tokens))
    results = []
    for attend in (
        lambda *given: cpu_operations.BlockAttention.apply(*given, 0.3, window, 0.0),
        lambda *given: torch.nn.functional.scaled_dot_product_attention(*given, attn_mask=mask, scale=0.3),
    ):
        given = parts(tokens)
        output = attend(*given)
        (output * torch.arange(output.numel()).view_as(output)).sum().backward()
        results.append([output, *(part.grad for part in given)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_of_attention_are_its_slopes(dropout):
    def attend(*given):
        torch.manual_seed(3)  # the same weights are dropped every time
        return cpu_operations.BlockAttention.apply(*given, 0.3, 13, dropout)

    assert torch.autograd.gradcheck(attend, parts(21))


def test_dropped_weights_keep_their_sum():
    """With values of 1, an output is the sum of its weights: on average 1."""
    query, key, value = (part.detach() for part in parts(2000))
    outputs = cpu_operations.BlockAttention.apply(query, key, torch.ones_like(value), 0.3, None, 0.4)
    assert abs(float(outputs.mean()) - 1) < 0.01
    assert float(outputs[:, :100].std()) > 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gap", [1, 1000])  # exp(-1000) is 0 in a float
def test_cross_entropy_is_torchs(dtype, gap):
    torch.manual_seed(gap)
    numbers = (gap * torch.randn(9, 33)).to(dtype)
    targets = torch.randint(33, (9,))
    targets[[2, 8]] = -100
    results = []
    for measure in (
        cpu_operations.CrossEntropy.apply,
        lambda logits, targets: torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none"),
    ):
        logits = numbers.clone().requires_grad_()
        losses = measure(logits, targets)
        (losses * torch.arange(9)).sum().backward()
        results.append([losses, logits.grad])
    (ours, of_ours), (expected, of_expected) = results
    torch.testing.assert_close(ours, expected)
    assert of_ours.dtype == dtype
    assert of_expected.any()
    torch.testing.assert_close(
        of_ours, of_expected, **({"rtol": 0.02, "atol": 1e-3} if dtype == torch.bfloat16 else {})
    )


@pytest.mark.parametrize("kind", sorted(cpu_operations.PLAIN_NORMS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_those_of_transformers(kind, dtype):
    import transformers

    family = kind.removesuffix("RMSNorm").lower()
    modeling = getattr(getattr(transformers.models, family), f"modeling_{family}")
    results = []
    for is_ours in (False, True):
        torch.manual_seed(2)
        norm = getattr(modeling, kind)(16, eps=0.01)
        torch.nn.init.normal_(norm.weight)
        numbers = torch.randn(3, 5, 16).to(dtype).requires_grad_()
        if is_ours:
            cpu_operations.replace_norms(norm)
        output = norm(numbers)
        (output * torch.linspace(-1, 1, 240).view_as(output)).sum().backward()
        results.append([output, numbers.grad, norm.weight.grad])
    for expected, ours in zip(*results, strict=True):
        tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.05}
        torch.testing.assert_close(ours, expected, check_dtype=False, **tolerance)


def test_norms_before_products_round_under_autocast():
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    outputs, gradients = [], []
    for is_ours in (False, True):
        torch.manual_seed(3)
        layer = torch.nn.ModuleDict({"input_layernorm": LlamaRMSNorm(16), "q_norm": LlamaRMSNorm(16)})
        linear = torch.nn.Linear(16, 16, bias=False)
        numbers = torch.randn(5, 16, requires_grad=True)
        if is_ours:
            cpu_operations.replace_norms(layer)
        with torch.autocast("cpu", torch.bfloat16):
            before = layer["input_layernorm"](numbers)
            outputs += [before, layer["q_norm"](numbers)]
            product = linear(before)
        product.float().square().sum().backward()
        gradients.append((product, numbers.grad))
    before, other = outputs[2:]
    assert (before.dtype, other.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(before, outputs[0].bfloat16())
    for expected, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0.05, atol=0.05)


def test_frozen_weights_of_norms_get_no_gradient():
    weight = torch.ones(4)
    numbers = torch.randn(2, 4, requires_grad=True)
    cpu_operations.RootMeanSquareNorm.apply(numbers, weight, 1e-6).sum().backward()
    assert numbers.grad is not None
    assert weight.grad is None
