"""The program `git starcoder`, also `python -m git_starcoder`."""

import sys

from git_starcoder import search_path  # noqa: F401 # pyright: ignore[reportUnusedImport] - first: see there
from git_starcoder.cli import main

if __name__ == "__main__":
    sys.exit(main())
