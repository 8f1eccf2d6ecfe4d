"""The Restorer: a trained network made to restore images of any size and kind."""

import copy
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.errors import UserError
from mprnet_lit.inference.ensemble import self_ensemble
from mprnet_lit.inference.memory import budget, largest_tile
from mprnet_lit.inference.padding import pad_to_multiple
from mprnet_lit.inference.tiling import Network, Progress, run_tiled
from mprnet_lit.inference.tlc import with_tlc
from mprnet_lit.models import SIZE_MULTIPLE, MPRNet
from mprnet_lit.weights import Info, read

Image = TypeVar("Image", NDArray[Any], Tensor)
_DTYPES = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


class Restorer:
    """Restores images of any size with a trained network.

    Args:
        model_or_path: the network, or a weights file: ``.pth``, ``.ckpt``, ``.safetensors``, an
            exported ``.onnx``; or a folder of runs, for the newest one's best checkpoint.
        tile: side of the tiles in pixels, a multiple of 8; ``"auto"``: as large as memory allows,
            the whole image if it fits; ``None``: the whole image at once.
        overlap: pixels by which neighbouring tiles overlap and fade into each other.
        tlc: local instead of global averages in channel attention (arXiv 2112.04491).
        self_ensemble: the mean over the eight flips and rotations; eight times the work.
        precision: ``"32"``, or mixed: ``"bf16"`` or ``"16"``.
        device: ``"auto"`` (an accelerator if there is one), ``"cpu"``, ``"cuda:1"``, ...
        tile_batch: tiles that the network gets at once.
        tlc_crop: side of the training patches for ``tlc``; ``None``: as the weights file says.
        memory_gb: what ``tile="auto"`` may use; ``None``: a share of what is free.
        compile: compile the network's blocks first, which takes up to a minute.

    Raises:
        UserError: the weights can't be read, or an option can't be used.
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
    ) -> None:
        self.device = _device(device)
        self.tile = _checked(tile, overlap, tile_batch)
        for name, value in (("memory_gb", memory_gb), ("tlc_crop", tlc_crop)):
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise UserError(f"{name}={value} must be a number above 0, or null")
        self.overlap, self.tile_batch = overlap, tile_batch
        if str(precision) not in _DTYPES:
            raise UserError(f"precision={precision} is none of {', '.join(_DTYPES)}: choose one")
        self.dtype = _DTYPES[str(precision)]
        self.self_ensemble = self_ensemble
        self.memory_gb = memory_gb
        self.source, self.runtime = "a network in memory", "torch"
        self.info = Info()
        self.network: Network
        if isinstance(model_or_path, MPRNet):
            model = copy.deepcopy(model_or_path)
        else:
            self.source = str(model_or_path)
            if Path(model_or_path).suffix == ".onnx":
                if tlc or compile:
                    raise UserError(
                        f"{model_or_path}: {'tlc' if tlc else 'compile'}=true is not for exported "
                        "networks: use the weights file"
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
        # The weights in the convolutions' precision, so that they aren't cast in each of them.
        self.network = model.to(self.device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _use_onnx(self, path: Path) -> None:
        from mprnet_lit.inference.onnx import OnnxNetwork

        if self.dtype == torch.float16:
            raise UserError(f"{path}: precision=16 is not for exported networks: leave it at 32")
        exported = OnnxNetwork(path, str(self.device), bf16=self.dtype == torch.bfloat16)
        self.network, self.info, self.size = exported, exported.info, exported.size
        self.runtime = exported.runtime
        self.crop = None
        if exported.on_cpu:  # tiles must fit there
            self.device = torch.device("cpu")

    @property
    def settings(self) -> dict[str, str]:
        """Return what is in force, in words."""
        tile = "off" if self.tile is None else f"{self.tile}, overlap {self.overlap}"
        if self.tile is not None and self.tile_batch > 1:
            tile += f", {self.tile_batch} at once"
        return {
            "weights": self.source,
            "task": self.info.task or "not said",
            "tiling": tile,
            "TLC": "off" if self.crop is None else f"on, training crop {self.crop}",
            "self-ensemble": "x8" if self.self_ensemble else "off",
            "precision": {v: k for k, v in _DTYPES.items()}[self.dtype],
            "device": f"{self.device}, {self.runtime}",
        }

    def __call__(self, image: Image, progress: Progress | None = None) -> Image:
        """Restore an image and return the same kind: type, shape, range.

        Args:
            image: an array (H, W, 3), RGB; or a tensor (3, H, W) or (B, 3, H, W). uint8, uint16,
                or floating point in [0, 1]. Results are clipped to the range.
            progress: told how many tiles are done, of how many.

        Raises:
            ValueError: another shape or type.
        """
        return self.stages(image, progress, last_only=True)[-1]

    def stages(
        self, image: Image, progress: Progress | None = None, *, last_only: bool = False
    ) -> tuple[Image, ...]:
        """Return each stage's image, as :meth:`__call__` returns the last one's."""
        if isinstance(image, Tensor):
            if image.dim() not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape:
                raise ValueError(f"a tensor must be (3, H, W) or (B, 3, H, W), not {image.shape}")
            batch = image if image.dim() == 4 else image[None]
            restored = self._same_kind(batch, progress, last_only)
            return tuple((r if image.dim() == 4 else r[0]).to(image.device) for r in restored)
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"an array must be (H, W, 3), not {image.shape}")
        batch = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)[None]
        restored = self._same_kind(batch, progress, last_only)
        return tuple(np.ascontiguousarray(r[0].permute(1, 2, 0).numpy()) for r in restored)

    def _same_kind(self, batch: Tensor, progress: Progress | None, last_only: bool) -> list[Tensor]:
        """Restore a batch of integers or floats into batches of the same type."""
        peak = {torch.uint8: 255, torch.uint16: 65535}.get(batch.dtype)
        if peak is None and not batch.is_floating_point():
            raise ValueError(f"an image must be uint8, uint16 or floating point, not {batch.dtype}")
        x = batch.float() if peak is None else batch.float().div_(peak)
        stages = self.restore(x, last_only=last_only, progress=progress)
        clipped = (stage.clamp_(0, 1) for stage in stages)
        return [(s if peak is None else s.mul_(peak).round_()).to(batch.dtype) for s in clipped]

    def restore(
        self, x: Tensor, *, last_only: bool = False, progress: Progress | None = None
    ) -> tuple[Tensor, ...]:
        """Restore a batch (B, 3, H, W) of any size in [0, 1].

        Returns the stages, the last of which is the restoration (with ``last_only`` nothing else),
        each (B, 3, H, W), float32, on the CPU and not clamped.
        """
        keep = slice(-1, None) if last_only else slice(None)

        def run(image: Tensor) -> tuple[Tensor, ...]:
            height, width = image.shape[-2:]
            padded = pad_to_multiple(image)
            tile = self._tile(padded.shape[-2], padded.shape[-1], len(image))
            network = _Runner(self.network, self.device, self.dtype, keep)
            stages = run_tiled(network, padded, tile, self.overlap, self.tile_batch, progress)
            return tuple(stage[..., :height, :width] for stage in stages)

        try:
            with torch.no_grad():
                x = x.to("cpu", torch.float32)
                return self_ensemble(run, x) if self.self_ensemble else run(x)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"the GPU's memory is too small for tile={self.tile}: set tile=auto or a smaller "
                "one"
            ) from error

    def _tile(self, height: int, width: int, images: int = 1) -> int:
        """Return the tile for a padded image; where it fits, one as large as the image."""
        if isinstance(self.tile, int):
            return self.tile
        if self.tile is None:
            return max(height, width)
        bytes_ = budget(self.device, self.memory_gb) / (self.tile_batch * images)
        side = largest_tile(self.size, bytes_, self.crop is not None)
        return max(height, width) if height * width <= side**2 else max(side, _least(self.overlap))


class _Runner:
    """Brings tiles to the device and results back, in the precision asked for."""

    def __init__(
        self, network: Network, device: torch.device, dtype: torch.dtype, keep: slice
    ) -> None:
        self.network, self.device, self.dtype, self.keep = network, device, dtype, keep

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        x = x.to(self.device).contiguous(memory_format=torch.channels_last)
        mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=mixed):
            stages = self.network(x)
        return tuple(stage.float().cpu() for stage in stages[self.keep])


def _device(name: str) -> torch.device:
    if name == "auto":
        found = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        )
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} can't be used here: choose auto or cpu") from error
    return device


def _least(overlap: int) -> int:
    """Return the smallest tile for an overlap: 8 pixels more, in whole multiples of 8."""
    return -(-overlap // SIZE_MULTIPLE) * SIZE_MULTIPLE + SIZE_MULTIPLE


def _checked(tile: Any, overlap: int, tile_batch: int) -> int | Literal["auto"] | None:
    if not isinstance(overlap, int) or overlap < 0:
        raise UserError(f"overlap={overlap} must be a whole number of pixels, 0 or more")
    if not isinstance(tile_batch, int) or tile_batch < 1:
        raise UserError(f"tile_batch={tile_batch} must be a whole number, 1 or more")
    if tile is None or tile == "auto":
        return cast(Literal["auto"] | None, tile)
    least = _least(overlap)
    if not isinstance(tile, int) or tile < least or tile % SIZE_MULTIPLE:
        raise UserError(
            f"tile={tile} must be auto, null, or a multiple of 8 of at least {least} "
            f"(overlap={overlap} and 8 more)"
        )
    return tile
