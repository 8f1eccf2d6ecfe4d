"""Model card: a README.md that describes weights by their metadata."""

import json
import re
from collections.abc import Mapping
from typing import Any

from mprnet_lit.models import MPRNet
from mprnet_lit.models.sizes import size_name
from mprnet_lit.runs.files import flatten
from mprnet_lit.utils.text import printable
from mprnet_lit.weights.address import HUB_FILE
from mprnet_lit.weights.info import Info
from mprnet_lit.weights.training_config import training_settings

_LICENSES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "agpl-3.0"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "unlicense"),
)
"""Licenses that the Hugging Face Hub knows by these names; all others are ``other``."""
_METRICS = {"val/psnr": ("psnr", "PSNR (dB)"), "val/ssim": ("ssim", "SSIM")}
"""Type and name on the Hub of each metric."""
_SETTINGS = (
    *("data.degradation._target_", "data.batch_size", "trainer.accumulate_grad_batches"),
    *("optimizer._target_", "optimizer.lr", "optimizer.weight_decay", "schedule._target_"),
    *("trainer.max_epochs", "trainer.max_steps", "trainer.precision", "callbacks.ema.decay"),
    *("loss._target_", "task.loss._target_", "seed"),  # task.loss: weights of release 0.2
)
"""Keys of the settings that the card lists."""
_REPLACED = str.maketrans("`|", "'/")
"""Replacements of the characters that end inline code or a cell of a table."""


def model_card(model: MPRNet, info: Info, source: str) -> str:
    """Return the text of a model card: YAML metadata of the Hugging Face Hub, then Markdown.

    Args:
        model: network that the card describes.
        info: metadata of its weights.
        source: path or address from which readers of the card load the weights.
    """
    name = size_name(model.size)
    count = sum(parameter.numel() for parameter in model.parameters())
    task = f" for the task {_code(info.task)}" if info.task else ""
    recorded = flatten(training_settings(info.config))
    settings = {key: recorded[key] for key in _SETTINGS if recorded.get(key) is not None}
    metrics = {
        _METRICS.get(key, ("", key))[1]: f"{value:.4g}"
        for key, value in sorted(info.metrics.items())
    }
    parts = [
        f"---\n{_front_matter(info)}---\n",
        f"# MPRNet {_code(name) if name == str(model.size) else name}\n",
        f"MPRNet with {count:,} parameters (float32){task}. The architecture is that of\n"
        "[Multi-Stage Progressive Image Restoration](https://arxiv.org/abs/2102.02808) (Zamir et "
        "al., CVPR 2021).\n",
        "## How to load\n",
        "```python\nfrom mprnet_lit import MPRNet, Restorer\n\n"
        f'restored = Restorer({json.dumps(source)})("photo.jpg")  # an array (H, W, 3)\n'
        f"model = MPRNet.from_pretrained({json.dumps(source)})  # the network, for training\n```\n",
        "## Training\n",
        f"Patches of {info.crop} x {info.crop} pixels.\n",
        *([_table("setting", settings)] if settings else []),
        f"The metadata of `{HUB_FILE}` contain all recorded settings.\n",
        "## Results\n",
        "Measured on the validation images of the training.\n" if metrics else "Not measured.\n",
        *([_table("metric", metrics)] if metrics else []),
        "## License\n",
        f"{_code(info.license)}\n" if info.license else "Unknown.\n",
    ]
    return "\n".join(parts)


def _front_matter(info: Info) -> str:
    """Return the metadata in YAML, in which every JSON value is valid."""
    fields: dict[str, Any] = {"library_name": "mprnet_lit", "pipeline_tag": "image-to-image"}
    if info.license.lower() in _LICENSES:
        fields["license"] = info.license.lower()
    elif info.license:
        slug = re.sub(r"[^a-z0-9]+", "-", info.license.lower()).strip("-")
        fields |= {"license": "other", "license_name": slug}
    fields["tags"] = ["image-restoration", "mprnet", "pytorch", "safetensors"]
    fields["tags"] += [info.task] if info.task else []
    metrics = [
        {"type": kind, "name": name, "value": info.metrics[key]}
        for key, (kind, name) in _METRICS.items()
        if key in info.metrics
    ]
    if metrics:
        result = {
            "task": {"type": "image-to-image"},
            "dataset": {"type": "validation", "name": "Validation images of the training"},
            "metrics": metrics,
        }
        fields["model-index"] = [{"name": "mprnet", "results": [result]}]
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items())


def _table(what: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {_code(name)} | {_code(str(value))} |" for name, value in rows.items()]
    return "\n".join((f"| {what} | value |", "|---|---|", *lines)) + "\n"


def _code(text: str) -> str:
    """Return text from a file as inline code, which has no Markdown or HTML syntax."""
    return f"`{printable(text).translate(_REPLACED)}`"
