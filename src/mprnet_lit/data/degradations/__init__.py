"""Seeded synthetic degradations of clean photographs."""

from mprnet_lit.data.degradations.base import Compose, Degradation, Nothing, RandomChoice
from mprnet_lit.data.degradations.defocus import Defocus
from mprnet_lit.data.degradations.downsampling import Downsampling
from mprnet_lit.data.degradations.grain import FilmGrain
from mprnet_lit.data.degradations.haze import Haze
from mprnet_lit.data.degradations.jpeg import Jpeg, Quantize
from mprnet_lit.data.degradations.low_light import LowLight
from mprnet_lit.data.degradations.motion import MotionBlur, motion_kernel
from mprnet_lit.data.degradations.noise import CameraNoise, GaussianNoise
from mprnet_lit.data.degradations.rain import RainStreaks
from mprnet_lit.data.degradations.raw import RawNoise
from mprnet_lit.data.degradations.shake import CameraShake, MovingPart

__all__ = [
    "CameraNoise",
    "CameraShake",
    "Compose",
    "Defocus",
    "Degradation",
    "Downsampling",
    "FilmGrain",
    "GaussianNoise",
    "Haze",
    "Jpeg",
    "LowLight",
    "MotionBlur",
    "MovingPart",
    "Nothing",
    "Quantize",
    "RainStreaks",
    "RandomChoice",
    "RawNoise",
    "motion_kernel",
]
