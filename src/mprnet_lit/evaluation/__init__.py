"""Evaluation on published test sets and on own pairs."""
