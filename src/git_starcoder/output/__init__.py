"""Output folders and files that appear complete or not at all, and never replace files of the user."""
