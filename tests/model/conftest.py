from __future__ import annotations

import pytest

from git_starcoder.model import architecture, base_weights, loading, network


@pytest.fixture(scope="module", autouse=True)
def toy_size(request):
    """The size `toy` is what a module calls TOY, on one core: matrices this small only lose by sharing."""
    with pytest.MonkeyPatch.context() as patch:
        if toy := getattr(request.module, "TOY", None):
            patch.setattr(network, "limit_library_threads", lambda: 1)
            patch.setitem(architecture.MODEL_SIZES, "toy", toy)
        yield


@pytest.fixture
def in_float32(monkeypatch):
    """Models are loaded in float32, also where a faster precision exists: their weights are not rounded."""
    for module in (base_weights, loading):
        monkeypatch.setattr(module, "best_precision", lambda _: "float32")
