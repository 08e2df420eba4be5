from __future__ import annotations

import pytest

from git_starcoder.model import architecture, network


@pytest.fixture(scope="session", autouse=True)
def toy_size():
    """The size `toy` learns a little in a few steps, on one core."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "limit_library_threads", lambda: 1)
        patch.setitem(architecture.MODEL_SIZES, "toy", sizes)
        yield
