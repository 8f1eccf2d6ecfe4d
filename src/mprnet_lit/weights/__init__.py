"""Weights: the published names and ours."""
