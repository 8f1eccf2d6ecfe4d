"""Training and validation images: listing, held-out validation images, and checks."""

from collections.abc import Mapping, Sequence
from typing import Any

from mprnet_lit.data.manifest import Check
from mprnet_lit.data.pairing import OnError
from mprnet_lit.data.samples import Sample, SampleList
from mprnet_lit.data.sources import CleanFolder, PairedFolders, Source
from mprnet_lit.utils.errors import RefusedError, UserError


def list_samples(
    train: Source, val: Source, *, holdout: float, patch_size: int, on_error: OnError, check: Check
) -> tuple[SampleList, SampleList]:
    """List and check the training and the validation images.

    Args:
        train: source of the training images.
        val: source of the validation images, possibly without images.
        holdout: fraction of the training images that is held out if ``val`` has no images.
        patch_size: side of the training patches in pixels.
        on_error: ``raise`` to report all faulty files in one error, or ``skip`` to skip them.
        check: how to check the images of folders; see :class:`mprnet_lit.data.manifest.Manifest`.

    Raises:
        UserError: there are no training images, a file is faulty, no validation images can be
            held out, or ``patch_size`` is larger than every training image.
    """
    found, validation = (_samples(source, on_error, check) for source in (train, val))
    if not found:
        raise UserError("there are no training images: set the folder of the source 'train'")
    if not validation:
        found, validation = hold_out(found, holdout)
    sides = found.sizes.min(axis=1)
    if (sides < patch_size).all():
        largest = found[int(sides.argmax())]
        raise UserError(
            f"patch_size={patch_size} is larger than every training image (the largest, "
            f"'{largest.name}', is {largest.width}x{largest.height}): set "
            f"patch_size={max(min(largest.height, largest.width) // 8 * 8, 8)} or smaller"
        )
    return found, validation


def _samples(source: Source, on_error: OnError, check: Check) -> SampleList:
    if isinstance(source, CleanFolder | PairedFolders):
        return source.samples(on_error, check)
    return SampleList.of(source.samples(on_error))


def hold_out(samples: Sequence[Sample], share: float) -> tuple[SampleList, SampleList]:
    """Split samples into training samples and an evenly spaced fraction for validation.

    Raises:
        UserError: there are fewer than two samples, or ``share`` is not in (0, 1).
    """
    if not 0 < share < 1:
        raise UserError(f"holdout={share} must be between 0 and 1, both excluded")
    if len(samples) < 2:
        raise UserError(
            "at least two images are needed, one for training and one for validation: add images, "
            "or set the folder of the source 'val'"
        )
    count = min(len(samples) - 1, max(1, round(share * len(samples))))
    held = {int((i + 0.5) * len(samples) / count) for i in range(count)}
    kept = [i for i in range(len(samples)) if i not in held]
    listed = SampleList.of(samples)
    return listed.take(kept), listed.take(sorted(held))


def check_unchanged(before: Mapping[str, Any], now: Mapping[str, Any], cache_gb: float) -> None:
    """Compare the training images with those of a checkpoint.

    Args:
        before: ``RestorationDataModule.state_dict()`` of the checkpoint.
        now: ``state_dict()`` of the current images.
        cache_gb: current size of the cache in GB.

    Raises:
        RefusedError: the training images or their order differ, so that the position in the epoch
            would be wrong.
    """
    differ = [key for key in now if before.get(key, now[key]) != now[key]]
    if "training" in differ or "patches" in differ:
        count, names = before.get("images"), f"{now['images']} images with other names or sizes"
        change = f"{count} images in the checkpoint, {now['images']} now"
        raise RefusedError(
            "can't resume: the training images differ from those of the checkpoint "
            f"({change if count != now['images'] else names}). Restore the images, or start a new "
            "run from the weights of the checkpoint"
        )
    if "window" in differ:
        raise RefusedError(
            f"can't resume with cache_gb={cache_gb:g}, because the order of the patches depends on "
            "cache_gb. Use the value of the checkpoint, or start a new run from the weights of the "
            "checkpoint"
        )
