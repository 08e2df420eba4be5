"""The checks: each is a promise that a dataset keeps or breaks.

To add one, write a subclass of `Check` in the module of its subject, or in a new module of this package; nothing else
registers it. `base` defines what a check is, and `run` runs all of them.
"""

from git_starcoder.checks.base import Check, CheckContext
from git_starcoder.checks.run import (
    MAX_KEPT_FINDINGS,
    Outcome,
    check,
    check_classes,
    check_names,
    open_source_repository,
)
from git_starcoder.checks.seed_suites import SEED_SUITES

__all__ = [
    "MAX_KEPT_FINDINGS", "SEED_SUITES", "Check", "CheckContext", "Outcome", "check", "check_classes", "check_names",
    "open_source_repository",
]  # fmt: skip
