"""Training losses of the stages of MPRNet."""

from mprnet_lit.training.losses.base import StageLoss, clamp_unit
from mprnet_lit.training.losses.charbonnier import EPS, CharbonnierLoss, EdgeLoss
from mprnet_lit.training.losses.frequency import FrequencyLoss
from mprnet_lit.training.losses.l1 import L1Loss
from mprnet_lit.training.losses.multi_stage import MultiStageLoss
from mprnet_lit.training.losses.perceptual import PerceptualLoss
from mprnet_lit.training.losses.psnr import PSNRLoss

__all__ = [
    "EPS",
    "CharbonnierLoss",
    "EdgeLoss",
    "FrequencyLoss",
    "L1Loss",
    "MultiStageLoss",
    "PSNRLoss",
    "PerceptualLoss",
    "StageLoss",
    "clamp_unit",
]
