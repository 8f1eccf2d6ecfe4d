"""Restorer: inference of a trained network on images of any size and type."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.inference.ensemble import SELF_ENSEMBLE, UPRIGHT
from mprnet_lit.inference.image_types import to_batch, to_network_input
from mprnet_lit.inference.options import check_options, check_tiling, parse_device, smallest_tile
from mprnet_lit.inference.results import Result
from mprnet_lit.inference.tile_size import (
    balanced,
    band_bytes,
    largest_tile,
    memory_budget,
    memory_errors,
)
from mprnet_lit.inference.tiling import Band, Network, Progress, Tiling, join, run_in_bands
from mprnet_lit.inference.tlc import with_tlc
from mprnet_lit.models import SIZE_MULTIPLE, MPRNet
from mprnet_lit.models.padding import padded_length
from mprnet_lit.utils.checks import require, require_batch, require_function
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.url import is_url
from mprnet_lit.weights import Info, read

Image = TypeVar("Image", NDArray[Any], Tensor, PIL.Image.Image)
_STAGES = 3
_DTYPES = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


class Restorer:
    """Restores images of any size with a trained network.

    Args:
        model_or_path: network, weights file (``.pth``, ``.ckpt``, ``.safetensors`` or an exported
            ``.onnx``), folder of runs, or name of shipped weights, or an address (``hf://`` or
            ``https://``); see :func:`mprnet_lit.weights.io.read`.
        tile: side of the tiles in pixels, a multiple of 8 that is at least 8 larger than
            ``overlap``; ``"auto"`` for the whole image if it fits in memory and otherwise the
            fewest tiles that fit, as small as their number allows; ``None`` for the whole image.
        overlap: minimum overlap of adjacent tiles in pixels; tiles are blended in the overlap.
        tlc: whether to use the test-time local converter (TLC, arXiv 2112.04491): local instead of
            global averages in channel attention.
        self_ensemble: whether to average over the eight flips and rotations of the image, which
            takes eight times as long.
        precision: ``"32"`` for float32, or ``"bf16"`` or ``"16"`` for mixed precision.
        device: ``"auto"`` (an accelerator if available), ``"cpu"``, ``"cuda:1"`` or the like.
        tile_batch: number of tiles per forward pass.
        tlc_crop: side of the training patches in pixels for ``tlc``; ``None`` for the value in the
            weights file.
        memory_gb: memory limit of ``tile="auto"`` in GB; ``None`` for half of the free memory. The
            limit includes the rows of unfinished tiles and, on a CPU, the image and its results.
        compile: whether to compile the blocks of the network with ``torch.compile``, which takes
            up to a minute.
        strength: share of the restoration in the result, from 0 (the image itself) to 1 (the full
            restoration): ``image + strength * (restoration - image)``, computed in float32 before
            the result is rounded. It applies to every stage.

    Raises:
        UserError: the weights can't be read, or an argument is invalid.
    """

    def __init__(
        self,
        model_or_path: MPRNet | str | Path,
        tile: int | Literal["auto"] | None = None,
        overlap: int = 32,
        tlc: bool = False,
        self_ensemble: bool = False,
        precision: Literal["32", "bf16", "16"] = "32",
        device: str = "auto",
        *,
        tile_batch: int = 1,
        tlc_crop: int | None = None,
        memory_gb: float | None = None,
        compile: bool = False,
        strength: float = 1.0,
    ) -> None:
        kinds = (MPRNet, str, Path)
        require("model_or_path", model_or_path, kinds, "an MPRNet or the path of a weights file")
        self.device = parse_device(device)
        self.tile = check_tiling(tile, overlap, tile_batch)
        switches = {"tlc": tlc, "self_ensemble": self_ensemble, "compile": compile}
        check_options(memory_gb, tlc_crop, strength, **switches)
        self.overlap, self.tile_batch = overlap, tile_batch
        if str(precision) not in _DTYPES:
            raise UserError(f"precision={precision} must be one of {', '.join(_DTYPES)}")
        self.dtype = _DTYPES[str(precision)]
        self.self_ensemble = self_ensemble
        self.memory_gb = memory_gb
        self.strength = strength
        self.source, self.runtime = "network in memory", "torch"
        self.info = Info()
        self.network: Network
        if isinstance(model_or_path, MPRNet):
            model = copy.deepcopy(model_or_path)
        else:
            self.source = str(model_or_path)
            if Path(model_or_path).suffix == ".onnx" and not is_url(self.source):
                if tlc or compile:
                    raise UserError(
                        f"{'tlc' if tlc else 'compile'}=True is not supported for the exported "
                        f"network {model_or_path}: use the weights file that it was exported from"
                    )
                self._use_onnx(Path(model_or_path))
                return
            weights = read(model_or_path)
            model, self.info, self.source = weights.model, weights.info, str(weights.path)
        self.size = model.size
        self.crop = (self.info.crop if tlc_crop is None else tlc_crop) if tlc else None
        if self.crop is not None:
            if self.crop % SIZE_MULTIPLE:
                raise UserError(f"tlc_crop={self.crop} must be a multiple of 8")
            model = with_tlc(model, self.crop)
        model.eval().requires_grad_(False)
        if compile:
            model.compile_blocks()
        # Cast the weights once, so that autocast does not cast them in every convolution.
        self.network = model.to(self.device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _use_onnx(self, path: Path) -> None:
        from mprnet_lit.inference.onnx_runtime import OnnxNetwork

        if self.dtype == torch.float16:
            raise UserError(
                f"precision=16 is not supported for the exported network {path}: set precision=32"
            )
        exported = OnnxNetwork(path, str(self.device), bf16=self.dtype == torch.bfloat16)
        self.network, self.info, self.size = exported, exported.info, exported.size
        self.runtime, self.dtype = exported.runtime, exported.dtype
        self.crop = None
        if exported.on_cpu:  # tiles must fit in the memory of the CPU
            self.device = torch.device("cpu")

    @property
    def settings(self) -> dict[str, str]:
        """Return the active options as text by name, for reports."""
        tile = "off" if self.tile is None else f"{self.tile}, overlap {self.overlap}"
        if self.tile is not None and self.tile_batch > 1:
            tile += f", {self.tile_batch} at once"
        return {
            "weights": self.source,
            "task": self.info.task or "unknown",
            "tiling": tile,
            "TLC": "off" if self.crop is None else f"on, training crop {self.crop}",
            "self-ensemble": "x8" if self.self_ensemble else "off",
            "strength": f"{self.strength:g}",
            "precision": {v: k for k, v in _DTYPES.items()}[self.dtype],
            "device": f"{self.device}, {self.runtime}",
        }

    @overload
    def __call__(self, image: Image, progress: Progress | None = None) -> Image: ...

    @overload
    def __call__(self, image: str | Path, progress: Progress | None = None) -> NDArray[Any]: ...

    def __call__(self, image: Any, progress: Progress | None = None) -> Any:
        """Restore an image and return it with the same type, dtype, shape and range.

        The range is [0, 255] for uint8, [0, 65535] for uint16 and [0, 1] for floating point; the
        result is clipped to it. A gray image is restored as three equal channels, whose mean is
        returned. An alpha channel (the second or fourth channel) is returned unchanged.

        Args:
            image: RGB or gray image, with or without alpha, as

                - a NumPy array (H, W), (H, W, C) or (B, H, W, C), C from 1 to 4;
                - a tensor (H, W), (C, H, W) or (B, C, H, W), C from 1 to 4, on any device;
                - a PIL image of mode L, LA, RGB, RGBA, I;16 or F. Mode 1 is returned as L; modes P,
                  YCbCr and RGBX are returned as RGB or RGBA. The result has the EXIF data and ICC
                  profile of the image. The EXIF orientation is not applied;
                - the path of an image file. The result is an array (H, W, 3) of uint8 or, for files
                  with more than 8 bits, uint16. The EXIF orientation is applied, and alpha is
                  dropped.
            progress: callback with the number of finished tiles and the total number.

        Raises:
            UserError: the type, dtype, shape or range of ``image`` is not supported, or the file
                can't be read.
        """
        return self.stages(image, progress, last_only=True)[-1]

    @overload
    def stages(
        self, image: Image, progress: Progress | None = None, *, last_only: bool = False
    ) -> tuple[Image, ...]: ...

    @overload
    def stages(
        self, image: str | Path, progress: Progress | None = None, *, last_only: bool = False
    ) -> tuple[NDArray[Any], ...]: ...

    def stages(
        self, image: Any, progress: Progress | None = None, *, last_only: bool = False
    ) -> tuple[Any, ...]:
        """Restore an image and return the result of every stage of the network.

        Args:
            image: image; see :meth:`__call__`.
            progress: callback with the number of finished tiles and the total number.
            last_only: whether to return the last stage only.

        Raises:
            UserError: see :meth:`__call__`.
        """
        source = to_network_input(image)
        results: list[Result] = []
        with memory_errors(self.tile):
            for top, stages in self._run(source.pixels, last_only, progress):
                results = results or [source.result() for _ in stages]
                for result, stage in zip(results, stages, strict=True):
                    if self.strength != 1:
                        stage = self._blend(source.pixels, stage.clamp_(0, 1), top)
                    result.write(top, stage)
            return tuple(result.finish() for result in results)

    def restore(
        self, x: Tensor, *, last_only: bool = False, progress: Progress | None = None
    ) -> tuple[Tensor, ...]:
        """Restore a batch.

        Args:
            x: batch (B, 3, H, W) in [0, 1], floating point, of any size.
            last_only: whether to return the last stage only.
            progress: callback with the number of finished tiles and the total number.

        Returns:
            Output of each stage, (B, 3, H, W) float32 on the CPU, not clamped. The last output is
            the restored batch.

        Raises:
            UserError: ``x`` has another type, dtype or shape, or the GPU is out of memory.
        """
        require_batch("x", x, channels=3)
        if not x.is_floating_point():
            raise UserError(f"x must be floating point in [0, 1], not {x.dtype}")
        with memory_errors(self.tile):
            x = x.detach()

            def finished(stage: Tensor, top: int) -> Tensor:
                return (stage if self.strength == 1 else self._blend(x, stage, top)).cpu()

            bands = self._run(x, last_only, progress)
            bands = ((top, [finished(stage, top) for stage in stages]) for top, stages in bands)
            return join(bands, x.shape[-2])

    def _run(self, pixels: Tensor, last_only: bool, progress: Progress | None) -> Iterator[Band]:
        """Restore pixels (B, C, H, W) with C = 1 or 3 of any type, tile by tile.

        Yields:
            First row, and the next rows of each stage, (B, 3, h, W) float32, on any device.
        """
        if progress is not None:
            require_function("progress", progress)

        def network(tiles: Tensor) -> list[Tensor]:
            on_device = tiles.to(self.device).contiguous(memory_format=torch.channels_last)
            mixed = self.dtype != torch.float32
            with torch.no_grad(), torch.autocast(self.device.type, self.dtype, enabled=mixed):
                stages = self.network(on_device)
            return [s.float().to(tiles.device) for s in (stages[-1:] if last_only else stages)]

        def load(rows: slice, columns: slice) -> Tensor:
            return to_batch(pixels[..., rows, columns], self._place)

        height, width = pixels.shape[-2:]
        rows, columns = padded_length(height), padded_length(width)
        stages = 1 if last_only else _STAGES
        tile = self._tile(rows, columns, len(pixels), stages, pixels.element_size())
        orientations = SELF_ENSEMBLE if self.self_ensemble else (UPRIGHT,)
        tiling = Tiling(tile, self.overlap, self.tile_batch, orientations)
        return run_in_bands(network, load, (height, width), tiling, self._place, progress)

    def _blend(self, pixels: Tensor, restored: Tensor, top: int) -> Tensor:
        """Blend restored rows from row ``top`` on with the pixels, in place."""
        rows = pixels[..., top : top + restored.shape[-2], :]
        return torch.lerp(to_batch(rows, self._place), restored, self.strength, out=restored)

    @property
    def _place(self) -> torch.device:
        """Device of the tiles before and after the network."""
        return self.device if self.runtime == "torch" else torch.device("cpu")

    def _tile(
        self, height: int, width: int, images: int = 1, stages: int = 1, itemsize: int = 1
    ) -> int:
        """Return the side of the tiles of a padded image; its longer side for a single tile.

        ``stages`` is the number of results for each image, and ``itemsize`` the bytes of a channel.
        """
        if isinstance(self.tile, int):
            return self.tile

        def largest(held: float) -> int:
            budget = max(memory_budget(self.device, self.memory_gb, held), 0)
            per_tile = budget / (self.tile_batch * images)
            return largest_tile(self.size, per_tile, self.crop is not None)

        if self.tile == "auto":
            on_host = self._place.type == "cpu"  # beside the image and its results
            held = (1 + stages) * images * 3 * height * width * itemsize if on_host else 0
            side = largest(held)
            if height * width > side**2:
                side = largest(held + band_bytes(stages * images, side, width))
                side = max(side, smallest_tile(self.overlap))
                return balanced(side, self.overlap, height, width)
        return max(height, width)
