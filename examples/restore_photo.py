"""Restore a photograph with the denoising weights of the package.

    python examples/restore_photo.py            # a noisy copy of an embedded photograph
    python examples/restore_photo.py photo.jpg  # your own photograph

The first command writes noisy.png. Both commands write restored.png to the current directory.
"""

import sys

import numpy as np
import skimage
from PIL import Image

from mprnet_lit import Restorer


def write_noisy_photo(path: str) -> None:
    """Add Gaussian noise with a standard deviation of 25 to an embedded photograph."""
    photo = skimage.data.chelsea()
    noise = np.random.default_rng(0).normal(0, 25, photo.shape)
    Image.fromarray((photo + noise).clip(0, 255).round().astype(np.uint8)).save(path)


def main(arguments: list[str]) -> None:
    """Restore the photograph at the given path, or a noisy embedded photograph."""
    path = arguments[0] if arguments else "noisy.png"
    if not arguments:
        write_noisy_photo(path)
    restorer = Restorer("denoise", tile="auto")  # or "deblur", "derain", a file, a run folder
    with Image.open(path) as photo:
        restorer(photo).save("restored.png")
    print(f"{path} -> restored.png")


if __name__ == "__main__":
    main(sys.argv[1:])
