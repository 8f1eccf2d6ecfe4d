"""MPRNet: multi-stage progressive image restoration (Zamir et al., CVPR 2021)."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from mprnet_lit.models.blocks import CAB, SAM, conv
from mprnet_lit.models.functional import SharedPReLU
from mprnet_lit.models.sizes import SIZES, Size, SizeName
from mprnet_lit.models.stages import ORB, Decoder, Encoder, ORSNet
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.compat import allow_recompilations
from mprnet_lit.utils.errors import UserError

if TYPE_CHECKING:
    from mprnet_lit.weights.info import Info

SIZE_MULTIPLE = 8
"""Required divisor of height and width: 2 for the quadrants times 4 for two ``Down`` layers."""


def split(x: Tensor, dim: int) -> Tensor:
    """Split ``x`` into halves along ``dim``, concatenated as a batch: (B, ...) -> (2B, ...)."""
    return torch.cat(_halves(x, dim))


def join(x: Tensor, dim: int) -> Tensor:
    """Invert :func:`split`: (2B, ...) -> (B, ...)."""
    return torch.cat(_halves(x, 0), dim)


def _halves(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    half = x.shape[dim] // 2  # chunk() would fix the batch size in the exported network
    return x.narrow(dim, 0, half), x.narrow(dim, half, half)


class MPRNet(nn.Module):
    """Three-stage restoration network of arXiv 2102.02808.

    Stage 1 works on four quadrants, stage 2 on two halves, stage 3 on the whole image; each
    predicts a residual that is added to the degraded image.

    Args:
        width: number of channels C of the finest level, at least ``reduction``.
        unet_step: number of channels U added at each encoder level.
        orsnet_step: number of channels O added in the original-resolution subnetwork.
        cabs_per_orb: number of channel attention blocks in each original-resolution block.
        reduction: reduction factor r of the channel attention.

    Raises:
        UserError: the values are not valid for :class:`Size`.
    """

    info: "Info | None" = None
    """Metadata of the weights, set by :meth:`from_pretrained`."""

    def __init__(
        self,
        width: int,
        unet_step: int,
        orsnet_step: int,
        cabs_per_orb: int,
        reduction: int = 4,
    ) -> None:
        super().__init__()
        self.size = Size(width, unet_step, orsnet_step, cabs_per_orb, reduction)
        activation = SharedPReLU()  # one learned scalar, shared by every block
        unet = (width, unet_step, reduction, activation)

        def shallow() -> nn.Sequential:
            return nn.Sequential(conv(3, width), CAB(width, reduction, activation))

        self.shallow1, self.shallow2, self.shallow3 = shallow(), shallow(), shallow()
        self.encoder1 = Encoder(*unet, fusion=False)
        self.decoder1 = Decoder(*unet)
        self.sam1 = SAM(width)
        self.merge1 = conv(2 * width, width)
        self.encoder2 = Encoder(*unet, fusion=True)
        self.decoder2 = Decoder(*unet)
        self.sam2 = SAM(width)
        self.merge2 = conv(2 * width, width + orsnet_step)
        self.orsnet = ORSNet(width, unet_step, orsnet_step, cabs_per_orb, reduction, activation)
        self.tail = conv(width + orsnet_step, 3)

    @classmethod
    def from_size(cls, name: SizeName) -> Self:
        """Build a network of a named size: ``tiny``, ``small``, ``base`` or ``large``.

        Raises:
            UserError: the name is unknown.
        """
        if not isinstance(name, str) or name not in SIZES:
            raise UserError(f"unknown model size '{name}': choose one of {', '.join(SIZES)}")
        return cls(**asdict(SIZES[name]))

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Build a network with trained weights, whose metadata are then in ``info``.

        Args:
            name_or_path: name of weights that the package ships (``"denoise"``, ``"deblur"``,
                ``"derain"``), path of a weights file or folder, or address
                (``hf://OWNER/REPO[/FILE][@REVISION]``, ``https://HOST/PATH``), as in
                :func:`mprnet_lit.weights.io.read`.

        Raises:
            UserError: the file is missing, can't be downloaded, or does not contain weights of an
                MPRNet.
        """
        from mprnet_lit.weights.io import read  # imports from a higher layer only when called

        trained = read(name_or_path)
        model = cls(**asdict(trained.model.size))
        model.load_state_dict(trained.model.state_dict())
        model.info = trained.info
        return model

    def save_pretrained(self, folder: str | Path, info: "Info | None" = None) -> None:
        """Write a folder that :meth:`from_pretrained` and the Hugging Face Hub read.

        The folder gets ``model.safetensors``, ``config.json`` with the size of the network, and
        ``README.md``, a model card.

        Args:
            folder: folder to create or update.
            info: metadata; ``self.info`` if ``None``.

        Raises:
            UserError: a file can't be written.
        """
        from mprnet_lit.weights.hub import save_folder

        save_folder(self, folder, info)

    def push_to_hub(
        self,
        repo_id: str,
        info: "Info | None" = None,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        commit_message: str = "Upload MPRNet",
    ) -> str:
        """Upload the files of :meth:`save_pretrained` to the Hugging Face Hub.

        Args:
            repo_id: name of the repository, ``OWNER/REPO``, which is created if it is missing.
            info: metadata; ``self.info`` if ``None``.
            private: whether a new repository is private; ``None`` for the default of the owner.
            revision: branch to upload to; ``None`` for the default branch.
            token: access token; ``None`` for ``HF_TOKEN`` or the token of ``hf auth login``.
            commit_message: message of the commit.

        Returns:
            Address of the commit.

        Raises:
            UserError: huggingface_hub is not installed, ``repo_id`` is not valid, or the upload
                failed, for example without a token or a network.
        """
        from mprnet_lit.weights.hub import push

        return push(self, repo_id, info, private, revision, token, commit_message)

    def start_from_identity(self) -> None:
        """Initialize the output convolutions to zero, so that every stage returns its input.

        The paper does not use this initialization, which saves the first steps of a short training.
        """
        for layer in (self.sam1.to_image, self.sam2.to_image, self.tail):
            nn.init.zeros_(layer.weight)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Enable or disable gradient checkpointing of the CABs: less memory, more time."""
        for module in self.modules():
            if isinstance(module, CAB):
                module.checkpointing = enabled

    def compile_blocks(self) -> None:
        """Compile the CABs, which take most of the time, in place, for images of any size.

        All CABs run the same code, which is compiled once for each number of channels, with dynamic
        shapes, in seconds instead of minutes.
        """
        allow_recompilations(32)
        for module in self.modules():
            if isinstance(module, CAB):
                module.compile(dynamic=True)

    def compile_regions(self) -> None:
        """Compile the levels of the U-Nets and the ORBs in place, for each size of the images anew.

        These regions are large enough to fuse most of the operations between convolutions, and
        regions of the same shape share their code. They contain no resampling, of which the
        compiled gradient consists of atomic additions. Tracing them with dynamic shapes takes
        minutes: for images of many sizes, see :meth:`compile_blocks`. The keys of the state dict
        stay the same.
        """
        allow_recompilations(32)
        for module in self.modules():
            if isinstance(module, ORB):
                module.compile(dynamic=False)
            elif isinstance(module, Encoder | Decoder):
                for region in module.children():
                    if isinstance(region, nn.Sequential | CAB):  # levels and skip connections
                        region.compile(dynamic=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Restore a batch.

        Args:
            x: degraded images (B, 3, H, W) in [0, 1]; H and W multiples of 8.

        Returns:
            Restored images of stages 1, 2 and 3, each (B, 3, H, W) and not clamped. Stage 3 is the
            final result.

        Raises:
            UserError: the shape is not (B, 3, H, W) with H and W multiples of 8.
        """
        require("x", x, Tensor, "a tensor (B, 3, H, W)")
        is_rgb = x.dim() == 4 and x.shape[1] == 3 and 0 not in x.shape
        if not is_rgb or x.shape[2] % SIZE_MULTIPLE or x.shape[3] % SIZE_MULTIPLE:
            raise UserError(
                f"MPRNet takes (B, 3, H, W) with H and W multiples of {SIZE_MULTIPLE}, "
                f"but got {tuple(x.shape)}: pad the image first"
            )
        # On the batch axis: [top, bottom], and [top left, bottom left, top right, bottom right].
        halves = split(x, 2)
        quadrants = split(halves, 3)

        encoded = self.encoder1(self.shallow1(quadrants))
        encoder1 = join(encoded[0], 3), join(encoded[1], 3), join(encoded[2], 3)
        decoder1 = self.decoder1(encoder1)
        gated, restored1 = self.sam1(decoder1[0], halves)

        features = self.merge1(torch.cat((self.shallow2(halves), gated), 1))
        encoded = self.encoder2(features, (encoder1, decoder1))
        encoder2 = join(encoded[0], 2), join(encoded[1], 2), join(encoded[2], 2)
        decoder2 = self.decoder2(encoder2)
        gated, restored2 = self.sam2(decoder2[0], x)

        features = self.merge2(torch.cat((self.shallow3(x), gated), 1))
        restored3 = self.tail(self.orsnet(features, encoder2, decoder2)) + x
        return join(restored1, 2), restored2, restored3
