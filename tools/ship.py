"""Add the final weights of a training to the package.

python -m tools.ship runs/denoise/TIME/checkpoints/last.ckpt
"""

import sys
from dataclasses import replace
from pathlib import Path

from mprnet_lit import weights
from mprnet_lit.weights.shipped import shipped


def main() -> None:
    read = weights.read(sys.argv[1])
    target = shipped(read.info.task)
    target.parent.mkdir(exist_ok=True)
    weights.save(read.model, target, replace(read.info, license="Apache-2.0"))
    print(f"{target.relative_to(Path.cwd())}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
