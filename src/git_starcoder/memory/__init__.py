"""The memory of a repository: exact counts of which tokens follow which, mixed with a network's predictions."""
