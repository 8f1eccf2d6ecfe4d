"""Weights: reading files, the published names and ours."""

from mprnet_lit.weights.files import load

__all__ = ["load"]
