"""Sweeps by Optuna: the search space, the study and its file, pruning."""
