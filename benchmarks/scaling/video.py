"""Time and memory of ``mode=restore`` around the network, for videos of three sizes.

``python -m benchmarks.scaling.video`` restores a clip of each size with a network that returns its
input, in a process of its own, and prints a line of JSON. PyTorch uses one thread. The clip is a
photo of scikit-image that moves, with film grain (sigma 1.5 of 255).
"""

import json
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import skimage.data
import torch

from mprnet_lit.inference import Restorer
from mprnet_lit.inference.change import mean_change
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.hardware import peak_resident
from mprnet_lit.video.restore import restore_video
from mprnet_lit.video.segments import Segments

SIZES = ((640, 360, 250), (1280, 720, 100), (1920, 1080, 50))
"""Width, height and number of frames."""
_GRAIN = 1.5
_RATE = Fraction(25)


def write_clip(path: Path, width: int, height: int, frames: int) -> None:
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


def restore_clip(path: Path) -> dict[str, float]:
    """Restore a clip without a network; return the time per frame and the peak memory."""
    restorer = Restorer(MPRNet.from_size("tiny"), device="cpu")
    restorer.network = lambda tiles: (tiles,)
    before, started, cpu = peak_resident() / 1e6, time.perf_counter(), time.process_time()
    result = restore_video(
        path,
        path.with_name("out.mp4"),
        restorer,
        measure=mean_change,
        segments=Segments(path.with_name("segments"), "benchmark"),
    )
    return {
        "frames": result.frames,
        "ms per frame": round((time.perf_counter() - started) / result.frames * 1000, 2),
        "CPU ms per frame": round((time.process_time() - cpu) / result.frames * 1000, 2),
        "peak MB": round(peak_resident() / 1e6),
        "peak MB of the video": round(peak_resident() / 1e6 - before),
    }


def measure() -> list[dict[str, Any]]:
    """Return a row for each size, each measured in a process of its own."""
    rows = []
    for width, height, frames in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "clip.mp4"
            write_clip(clip, width, height, frames)
            command = [sys.executable, "-m", "benchmarks.scaling.video", str(clip)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append({"size": f"{width}x{height}", **json.loads(output)})
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(json.dumps(restore_clip(Path(sys.argv[1]))))
    else:
        for row in measure():
            print(json.dumps(row), flush=True)
