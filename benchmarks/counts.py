"""Count the FLOPs, the memory traffic and the saved activations of a training step.

python -m benchmarks.counts

The step runs on the meta device, without data. The counts assume eager mode: each operation reads
its inputs and writes its outputs once.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mprnet_lit.models import MPRNet, SizeName
from mprnet_lit.training.losses import MultiStageLoss

# Recipes of the paper: size, patch size, batch size.
RECIPES: tuple[tuple[SizeName, int, int], ...] = (
    ("small", 256, 16),
    ("base", 128, 16),
    ("large", 256, 16),
)
H100_FLOPS, H100_BYTES = 989e12, 3.35e12
"""Peak values per second of the H100 SXM5 data sheet: dense bfloat16 FLOPs and HBM3 bandwidth."""


class BytesMoved(TorchDispatchMode):
    """Dispatch mode that sums the bytes that operations read and write. Views count as zero."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.convolutions = self.others = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and "empty" not in str(func):
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            size = sum(t.numel() * t.element_size() for t in tensors)
            if "convolution" in str(func):
                self.convolutions += size
            else:
                self.others += size
        return out


def count(size: SizeName, patch: int, batch: int, checkpointing: bool = False) -> dict[str, float]:
    """Return the FLOPs, the bytes moved and the bytes saved for the backward pass, in bfloat16."""
    with torch.device("meta"):
        model = MPRNet.from_size(size).to(torch.bfloat16)
        target = torch.rand(batch, 3, patch, patch, dtype=torch.bfloat16)
        loss_fn = MultiStageLoss()
    model.set_gradient_checkpointing(checkpointing)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage.nbytes()
        held.append(storage)
        return tensor

    def step() -> torch.Tensor:
        differences = torch.cat(model(target)).float()  # autocast does not support the meta device
        edge: torch.Tensor = loss_fn.edge.of(differences)
        return loss_fn.charbonnier.of(differences) + edge

    held: list[Any] = []
    flops, moved = FlopCounterMode(display=False), BytesMoved()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = step()
    parameters = sum(p.nbytes for p in model.parameters())
    result = {"kept": float(sum(kept.values()) - parameters)}
    with flops, moved:
        step().backward()
    del loss
    return result | {
        "flops": flops.get_total_flops(),
        "bytes_convolutions": moved.convolutions,
        "bytes_others": moved.others,
    }


def main() -> None:
    print("| | TFLOP | GB moved: convolutions | GB moved: other operations | GB of activations | "
          "the same with checkpointing | H100: compute time | H100: memory time |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for size, patch, batch in RECIPES:
        found = count(size, patch, batch)
        less = count(size, patch, batch, checkpointing=True)
        moved = found["bytes_convolutions"] + found["bytes_others"]
        print(
            f"| `{size}`, {batch} patches of {patch}x{patch} | {found['flops'] / 1e12:.1f} "
            f"| {found['bytes_convolutions'] / 1e9:.0f} | {found['bytes_others'] / 1e9:.0f} "
            f"| {found['kept'] / 1e9:.1f} | {less['kept'] / 1e9:.1f} "
            f"| {found['flops'] / H100_FLOPS:.3f} s | {moved / H100_BYTES:.3f} s |"
        )


if __name__ == "__main__":
    main()
