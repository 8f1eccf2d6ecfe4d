"""Compare patches per second: image decoding, several crops per decode, and the prepared store."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import h5py
import numpy as np
from benchmarks.interleave import Job, time_jobs

from mprnet_lit.data import PairedAugmentation, PairedFolders, Photos, Prepared
from mprnet_lit.data.crops import crop
from mprnet_lit.data.datasets import CropDataset, ImageCache
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.sampling import EpochSampler, ItemKey, LazyLoader
from mprnet_lit.images.reading import read_image

PATCH = 256


def _make(folder: Path, pairs: int) -> None:
    """Write pairs of noisy and clean 1280x720 crops of enlarged photographs as PNG."""
    photos = [read_image(s.target) for s in Photos("train").samples("raise")]
    for k in range(pairs):
        rng = np.random.default_rng(k)
        photo = cv2.resize(photos[k % len(photos)], (1600, 1100), interpolation=cv2.INTER_CUBIC)
        top, left = (int(v) for v in rng.integers(0, (380, 320)))
        clean = photo[top : top + 720, left : left + 1280]
        noise = rng.normal(0, 5, clean.shape)
        for side, image in (("gt", clean), ("in", np.clip(clean + noise, 0, 255))):
            path = folder / side / f"{k}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), image.astype(np.uint8)[:, :, ::-1])


def _make_hdf5(path: Path, samples: Sequence[Sample]) -> None:
    with h5py.File(path, "w") as file:
        for k, sample in enumerate(samples):
            for side in ("target", "degraded"):
                pixels = read_image(getattr(sample, side))
                file.create_dataset(f"{side}/{k}", data=pixels, chunks=(128, 128, 3))


def measure(pairs: int = 24, patches: int = 48, rounds: int = 5) -> dict[str, Any]:
    """Return the seconds per round and the bytes on disk of each storage method."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make(folder, pairs)
        samples = PairedFolders(folder / "in", folder / "gt").samples("raise")
        store = folder / "store"
        prepared = _prepare(folder, store)
        _make_hdf5(folder / "store.h5", samples)
        augmentation = PairedAugmentation([A.D4(p=1.0)])
        rng = np.random.default_rng(0)
        keys = [ItemKey(0, int(k)) for k in rng.integers(0, pairs, patches)]

        def crops(from_store: bool) -> None:
            """Crop both images of each pair, without further processing."""
            cache = ImageCache(0)
            for key in keys:
                sample = (prepared if from_store else samples)[key.item]
                top, left = int(rng.integers(720 - PATCH)), int(rng.integers(1280 - PATCH))
                for path in (sample.target, sample.degraded):
                    assert path is not None
                    np.ascontiguousarray(crop(cache.read(path), top, left, PATCH, PATCH))

        def crops_of_hdf5() -> None:
            """Crop the same pairs in a chunked, uncompressed HDF5 file."""
            with h5py.File(folder / "store.h5") as file:
                for key in keys:
                    top, left = int(rng.integers(720 - PATCH)), int(rng.integers(1280 - PATCH))
                    for side in ("target", "degraded"):
                        file[f"{side}/{key.item}"][top : top + PATCH, left : left + PATCH]

        def batches(
            source: Sequence[Sample], crops_per_image: int, cache: float, window: int | None
        ) -> None:
            """Load batches of augmented float patches."""
            dataset = CropDataset(
                source,
                crop_size=PATCH,
                training=True,
                augmentation=augmentation,
                crops_per_image=crops_per_image,
                cache=ImageCache(int(cache)),
            )
            sampler = EpochSampler(len(dataset), shuffle=True, images=len(source), window=window)
            for _ in islice(LazyLoader(dataset, batch_size=4, sampler=sampler), patches // 4):
                pass

        jobs: dict[str, Job] = {
            "crops, decoding PNG files": lambda: crops(False),
            "crops, prepared": lambda: crops(True),
            "crops, HDF5 instead": crops_of_hdf5,
            "batches, decoding for each patch": lambda: batches(samples, 16, 0, None),
            "batches, 16 crops per decode": lambda: batches(samples, 16, 2e8, 8),
            "batches, prepared": lambda: batches(prepared, 16, 0, None),
        }
        figures = time_jobs(jobs, rounds)  # the untimed round fills the page cache
        size = {
            "png": _bytes(folder / "in") + _bytes(folder / "gt"),
            "store": _bytes(store / "train"),
        }
        return {"figures": figures, "patches": patches, "bytes": size}


def _prepare(folder: Path, store: Path) -> Sequence[Sample]:
    """Prepare the pairs in a store, and return the training samples of the store."""
    command = [sys.executable, "-m", "mprnet_lit", "mode=prepare", "data=paired", f"output={store}"]
    for split in ("train", "val"):  # identical, so that no pairs are held out
        command += [f"data.{split}.degraded={folder}/in", f"data.{split}.target={folder}/gt"]
    subprocess.run(command, check=True, capture_output=True)
    return Prepared(store, "train").samples("raise")


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
