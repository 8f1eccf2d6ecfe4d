"""Time and memory of ``mode=restore`` around the network, for videos of three sizes.

The clip is a photo of scikit-image that moves, with film grain (sigma 1.5 of 255).
"""

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import skimage.data
from benchmarks.scaling.identity import restore_unchanged
from benchmarks.scaling.processes import in_new_process

TITLE = "Videos with an identity network, by height in pixels (16:9, H.264)"
SIZES = BEFORE = (360, 720, 1080)
_GRAIN = 1.5
_RATE = Fraction(25)


def measure(height: int) -> dict[str, float]:
    """Restore a clip of some seconds in a new process."""
    width, frames = 2 * round(height * 8 / 9), 90_000 // height
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        _write_clip(clip, width, height, frames)
        used = in_new_process(restore_unchanged, clip, Path(folder) / "out")
    return {
        "ms per frame": used.seconds / frames * 1000,
        "CPU ms per frame": used.cpu / frames * 1000,
        "peak memory, MB": used.growth / 1e6,
    }


def _write_clip(path: Path, width: int, height: int, frames: int) -> None:
    """Write a clip with H.264, CRF 18."""
    photo = skimage.data.coffee()
    scale = max((width + frames) / photo.shape[1], height / photo.shape[0])
    photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", _RATE, options={"crf": "18"})
        stream.width, stream.height = width, height
        for number in range(frames):
            view = photo[:height, number : number + width]
            noise = grain.normal(0, _GRAIN, (height, width, 1))
            noisy = (view + noise).round().clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode(None))
