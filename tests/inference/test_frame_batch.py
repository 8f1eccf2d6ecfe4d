"""Number of video frames per batch."""

import pytest
import torch

from mprnet_lit import Restorer
from mprnet_lit.inference.frame_batch import frames_at_once
from mprnet_lit.models import MPRNet


def on_gpu(**options: object) -> Restorer:
    """Return a restorer that claims to be on a GPU, on a machine without one."""
    restorer = Restorer(MPRNet(8, 4, 4, 1), device="cpu", **options)  # type: ignore[arg-type]
    restorer.device = torch.device("cuda")
    return restorer


@pytest.mark.parametrize(
    ("size", "memory_gb", "frames"),
    [
        ((360, 640), 16, 8),
        ((1080, 1920), 16, 2),
        ((2160, 3840), 16, 1),
        ((360, 640), 1.5, 5),  # the network needs 1152 bytes per pixel
        ((360, 640), 1.2, 4),
        ((360, 640), 0.4, 1),
        ((360, 640), 0.01, 1),
    ],
)
def test_batch_fits_in_memory_without_tiles(
    size: tuple[int, int], memory_gb: float, frames: int
) -> None:
    assert frames_at_once(on_gpu(tile="auto", memory_gb=memory_gb), *size) == frames


def test_batch_is_one_frame_on_a_cpu_or_with_given_tiles() -> None:
    cpu = Restorer(MPRNet(8, 4, 4, 1), tile="auto", memory_gb=16, device="cpu")
    assert frames_at_once(cpu, 360, 640) == 1
    assert frames_at_once(on_gpu(tile=None), 360, 640) == 1
    assert frames_at_once(on_gpu(tile=512), 360, 640) == 1
