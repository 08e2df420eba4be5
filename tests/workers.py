"""The tests on all cores, for `make test` (`pytest -n auto`): how many workers, where each runs, and who gets what.

The tests of a module go to one worker, so that its fixtures are made once; the modules that take longest go first, so
that no worker has one left when the others have ended.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from git_starcoder.engine.local import usable_cpu_count

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

FIRST = (
    "seed_scripts/test_seed_documents.py", "docs/test_pages.py", "model/test_resume.py", "cli/test_model_commands.py",
    "report/test_in_a_browser.py", "model/test_training.py", "test_elite.py", "cli/test_build_command.py",
    "test_hostile_history.py", "report/test_report.py", "checks/test_checks.py", "test_build.py",
)  # fmt: skip
"""Modules that take longest, the longest first. Others come after them, in the order of their names."""
APART = "docs/test_pages.py::test_blocks_of_a_page_run"
"""Its tests have little in common and take long: they may go to different workers."""
MEMORY = 3 << 30
"""Bytes that a worker and the processes that its tests start need at most, about."""


def pytest_configure(config: pytest.Config) -> None:
    """A worker and what it starts stay on one core.

    Trainings take as many threads as there are cores. Those of several workers at once would wait for one another, in
    loops, for several times as long as the work takes.
    """
    if hasattr(config, "workerinput") and hasattr(os, "sched_setaffinity"):
        number = int(config.workerinput["workerid"].removeprefix("gw"))
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {mine[number % len(mine)]})


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One per core, as far as the memory goes."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return max(1, min(usable_cpu_count(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEMORY))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest comes first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (_rank(item.nodeid), item.nodeid.partition("::")[0]))


def _rank(node: str) -> int:
    module = node.partition("::")[0]
    return next((rank for rank, end in enumerate(FIRST) if module.endswith(end)), len(FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """What hands out modules, and some tests alone."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if APART in nodeid else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # would put the modules with most tests first
    return ByModule(config, log)
