"""The Restorer: a trained network made to restore images of any size and kind."""

import copy
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, overload

import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.inference.ensemble import self_ensemble
from mprnet_lit.inference.image_types import to_batch
from mprnet_lit.inference.tile_size import budget, largest_tile
from mprnet_lit.inference.tiling import Network, Progress, run_tiled
from mprnet_lit.inference.tlc import with_tlc
from mprnet_lit.models import SIZE_MULTIPLE, MPRNet
from mprnet_lit.models.padding import pad_to_multiple
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights import Info, read

Image = TypeVar("Image", NDArray[Any], Tensor, PIL.Image.Image)
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
        if not isinstance(model_or_path, MPRNet | str | Path):
            raise UserError(
                "model_or_path must be an MPRNet or the name of a weights file, not "
                f"{type(model_or_path).__name__}"
            )
        self.device = _device(device)
        self.tile = _checked(tile, overlap, tile_batch)
        _check_options(memory_gb, tlc_crop, tlc=tlc, self_ensemble=self_ensemble, compile=compile)
        self.overlap, self.tile_batch = overlap, tile_batch
        if str(precision) not in _DTYPES:
            raise UserError(f"precision={precision} must be one of {', '.join(_DTYPES)}")
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
        from mprnet_lit.inference.onnx_runtime import OnnxNetwork

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

    @overload
    def __call__(self, image: Image, progress: Progress | None = None) -> Image: ...

    @overload
    def __call__(self, image: str | Path, progress: Progress | None = None) -> NDArray[Any]: ...

    def __call__(self, image: Any, progress: Progress | None = None) -> Any:
        """Restore an image and return the same kind: type, shape, range.

        uint8 and uint16 use their whole range, floating point [0, 1]; results are clipped to it.
        Gray is restored as three equal colors, of which the mean is returned. Alpha, the fourth
        channel or the second, is returned as it is.

        Args:
            image: the image, RGB or gray, with or without alpha, as

                - a NumPy array (H, W), (H, W, C) or (B, H, W, C), C from 1 to 4;
                - a tensor (H, W), (C, H, W) or (B, C, H, W), C from 1 to 4, which comes back on
                  its device;
                - a PIL image of mode L, LA, RGB, RGBA, I;16 or F; 1 comes back as L, and P, YCbCr
                  and RGBX as RGB or RGBA. Its EXIF and profile are attached to the result, and
                  its EXIF orientation is not applied;
                - the name of an image file, for an array (H, W, 3) of uint8 or, if the file has
                  more bits, uint16, with its EXIF orientation applied and without alpha.
            progress: called with how many tiles are done, of how many.

        Raises:
            UserError: the image is of another kind, type, shape or range, or the file cannot be
                read.
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
        """Return each stage's image, as :meth:`__call__` returns the last one's.

        Raises:
            UserError: as :meth:`__call__` raises.
        """
        batch = to_batch(image)
        stages = self.restore(batch.colors, last_only=last_only, progress=progress)
        return tuple(batch.like(stage) for stage in stages)

    def restore(
        self, x: Tensor, *, last_only: bool = False, progress: Progress | None = None
    ) -> tuple[Tensor, ...]:
        """Restore a batch (B, 3, H, W) of any size in [0, 1].

        Returns the stages, the last of which is the restoration (with ``last_only`` nothing else),
        each (B, 3, H, W), float32, on the CPU and not clamped.

        Raises:
            UserError: ``x`` is not such a tensor, or the device's memory is too small.
        """
        if progress is not None and not callable(progress):
            raise UserError(f"progress must be a function, not {type(progress).__name__}")
        if not (isinstance(x, Tensor) and x.dim() == 4 and x.shape[1] == 3 and 0 not in x.shape):
            what = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise UserError(f"x must be a tensor (B, 3, H, W), not {what}")
        if not x.is_floating_point():
            raise UserError(f"x must be floating point in [0, 1], not {x.dtype}")
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
            advice = "memory_gb=4, say" if self.tile == "auto" else "tile=auto or a smaller one"
            raise UserError(
                f"the GPU's memory is too small for tile={self.tile}: set {advice}"
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
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(f"device={name} can't be used here: choose auto or cpu") from error
    return device


def _least(overlap: int) -> int:
    """Return the smallest tile for an overlap: 8 pixels more, in whole multiples of 8."""
    return -(-overlap // SIZE_MULTIPLE) * SIZE_MULTIPLE + SIZE_MULTIPLE


def _check_options(memory_gb: Any, tlc_crop: Any, **switches: Any) -> None:
    """Raise UserError if an option's value is of another kind."""
    for name, value in (("memory_gb", memory_gb), ("tlc_crop", tlc_crop)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < float("inf")):
            raise UserError(f"{name}={value} must be a number above 0, or null")
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise UserError(f"{name}={value} must be true or false")


def _checked(tile: Any, overlap: int, tile_batch: int) -> int | Literal["auto"] | None:
    if type(overlap) is not int or overlap < 0:
        raise UserError(f"overlap={overlap} must be a whole number of pixels, 0 or more")
    if type(tile_batch) is not int or tile_batch < 1:
        raise UserError(f"tile_batch={tile_batch} must be a whole number, 1 or more")
    if tile is None or tile == "auto":
        return cast(Literal["auto"] | None, tile)
    least = _least(overlap)
    if type(tile) is not int or tile < least or tile % SIZE_MULTIPLE:
        raise UserError(
            f"tile={tile} must be auto, null, or a multiple of 8 of at least {least} "
            f"(overlap={overlap} and 8 more)"
        )
    return tile
