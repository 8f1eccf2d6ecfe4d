"""Sweeps with Optuna: search space, study and pruning."""
