"""Compares recipes, trainings and models on one held-out text. `compare` does it; the other modules are its parts."""
