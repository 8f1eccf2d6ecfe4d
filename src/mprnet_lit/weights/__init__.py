"""Weights files: reading, writing and metadata."""

from mprnet_lit.weights.info import RECORD, Info
from mprnet_lit.weights.io import Weights, read, save
from mprnet_lit.weights.io import load_weights as load
from mprnet_lit.weights.shipped import SHIPPED

__all__ = ["RECORD", "SHIPPED", "Info", "Weights", "load", "read", "save"]
