"""Put a training's last weights into the package.

python -m benchmarks.ship runs/denoise/TIME/checkpoints/last.ckpt
"""

import sys
from dataclasses import replace
from pathlib import Path

from mprnet_lit import weights
from mprnet_lit.weights.shipped import shipped

KEPT = ("seed", "task", "model", "weights", "module", "optimizer", "data", "trainer")
"""What of the configuration says how they were trained; the rest is of the machine and the run."""


def main() -> None:
    read = weights.read(sys.argv[1])
    config = {key: read.info.config[key] for key in KEPT}
    config["trainer"] = {k: v for k, v in config["trainer"].items() if k != "default_root_dir"}
    config["callbacks"] = {"ema": read.info.config["callbacks"]["ema"]}  # the others: how it ran
    target = shipped(read.info.task)
    target.parent.mkdir(exist_ok=True)
    weights.save(read.model, target, replace(read.info, licence="Apache-2.0", config=config))
    print(f"{target.relative_to(Path.cwd())}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
