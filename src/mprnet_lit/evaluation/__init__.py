"""Evaluation on published test sets and on custom image pairs."""
