"""Seeded synthetic degradations of clean photographs."""

from mprnet_lit.data.degradations.base import Compose, Degradation, RandomChoice
from mprnet_lit.data.degradations.jpeg import Jpeg
from mprnet_lit.data.degradations.motion import MotionBlur, motion_kernel
from mprnet_lit.data.degradations.noise import CameraNoise, GaussianNoise
from mprnet_lit.data.degradations.rain import RainStreaks
from mprnet_lit.data.degradations.shake import CameraShake, MovingPart

__all__ = [
    "CameraNoise",
    "CameraShake",
    "Compose",
    "Degradation",
    "GaussianNoise",
    "Jpeg",
    "MotionBlur",
    "MovingPart",
    "RainStreaks",
    "RandomChoice",
    "motion_kernel",
]
