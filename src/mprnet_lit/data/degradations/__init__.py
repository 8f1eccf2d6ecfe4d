"""Seeded synthetic degradations of clean photographs."""

from mprnet_lit.data.degradations.base import Compose, Degradation, Nothing, RandomChoice
from mprnet_lit.data.degradations.jpeg import Jpeg
from mprnet_lit.data.degradations.motion import MotionBlur, motion_kernel
from mprnet_lit.data.degradations.noise import CameraNoise, GaussianNoise
from mprnet_lit.data.degradations.rain import RainStreaks

__all__ = [
    "CameraNoise",
    "Compose",
    "Degradation",
    "GaussianNoise",
    "Jpeg",
    "MotionBlur",
    "Nothing",
    "RainStreaks",
    "RandomChoice",
    "motion_kernel",
]
