"""Importing this module removes the current folder from where Python looks for modules (`sys.path`).

The current folder may be the repository, whose modules must not run. It is in `sys.path` with `python -m`, and if
`PYTHONPATH` has an empty element. So this is imported before anything that is not loaded yet, even before other modules
of the standard library, which stand behind `PYTHONPATH`.
"""

import os
import sys


def without_current_folder(folders: list[str]) -> list[str]:
    """The folders without the current one, unless it has this package or the libraries of Python."""
    try:
        current = os.path.realpath(os.getcwd())  # noqa: PTH109 - pathlib may not be loaded yet
    except FileNotFoundError:  # it was deleted
        return [folder for folder in folders if folder]
    package = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir))  # noqa: PTH118, PTH120
    needed = {package, *(os.path.realpath(path) for path in _library_folders())}
    return [folder for folder in folders if folder and (os.path.realpath(folder) != current or current in needed)]


def _library_folders() -> list[str]:
    """The folders of the standard library and of installed packages."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    names = (f"lib/{version}", f"lib/{version}/lib-dynload", f"lib/{version}/site-packages")
    return [os.path.join(root, name) for root in roots for name in names]  # noqa: PTH118


sys.path[:] = without_current_folder(sys.path)
