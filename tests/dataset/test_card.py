from __future__ import annotations

from git_starcoder.dataset.write_card import hub_licence
from git_starcoder.text.licences import UNKNOWN_LICENCE


def test_the_hub_has_its_own_keys():
    assert [hub_licence(name) for name in ("MIT", "GPL-3.0", UNKNOWN_LICENCE)] == ["mit", "gpl-3.0", "other"]
