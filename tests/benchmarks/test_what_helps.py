"""The tables of what-helps.md: effects of several repositories, and the claims beside them."""

from __future__ import annotations

from math import exp

import pytest

from checkout import ROOT


@pytest.fixture
def what_helps(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return __import__("what_helps")


def effect(repo, arm, ratio, low, high, subject="network", reference="effectiveness"):
    return {
        "repo": repo, "start": "scratch", "recipe": reference, "arm": arm, "reference": reference, "subject": subject,
        "ratio": ratio, "low": low, "high": high,
    }  # fmt: skip


def test_effects_are_combined_as_independent_ones(what_helps):
    combined = what_helps.combine(
        [what_helps.Shown(exp(-0.2), exp(-0.5), exp(0.1)), what_helps.Shown(1.0, exp(-0.4), exp(0.4))]
    )
    assert combined == pytest.approx((exp(-0.1), exp(-0.1 - 0.25), exp(-0.1 + 0.25)))
    one = what_helps.Shown(0.9, 0.8, 1.1)
    assert what_helps.combine([one]) == pytest.approx(one)
    assert what_helps.combine([one, what_helps.Shown(0.9, None, None)]).low is None


def test_what_shows_no_effect_says_so(what_helps):
    assert str(what_helps.Shown(0.9, 0.8, 1.1)) == "-10.0 % (-20.0 to +10.0); no effect shown"
    assert str(what_helps.Shown(0.9, 0.8, 0.95)) == "-10.0 % (-20.0 to -5.0)"
    assert str(what_helps.Shown(0.9, None, None)) == "-10.0 %"


def test_the_tables_have_every_repository_and_every_claim(what_helps, capsys):
    effects = [
        effect("flask", "elite", 1.05, 1.01, 1.09),
        effect("gin", "elite", 1.15, 1.05, 1.2),
        effect("gin", "without weigh", 1.0, 0.9, 1.1),
    ]
    what_helps.print_tables(effects)
    lines = capsys.readouterr().out.splitlines()
    assert {"| reference | arm | scratch |", "| reference | arm | flask | gin |"} <= set(lines)
    all_repos, each = [line for line in lines if line.startswith("| effectiveness | elite |")]
    assert all_repos.startswith("| effectiveness | elite | +9.9 % (")
    assert each.endswith("| +5.0 % (+1.0 to +9.0) | +15.0 % (+5.0 to +20.0) |")
    all_repos, each = [line for line in lines if "without weigh" in line]
    assert all_repos.endswith("no effect shown, 1 of 2 repositories |")
    assert "|  | +0.0 %" in each
    [claim] = [line for line in lines if line.startswith("| 20–40 % better")]
    assert "+9.9 %" in claim
