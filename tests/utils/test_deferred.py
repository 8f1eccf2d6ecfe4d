"""Import of torchmetrics without ``scipy.signal``."""

import subprocess
import sys
import tempfile
from importlib.resources import files

import scipy.signal
import torchmetrics


def test_training_starts_without_scipy_signal_which_remains_usable() -> None:
    code = (
        "import sys, mprnet_lit.training.fit, torchmetrics\n"
        "assert torchmetrics.__version__\n"
        "assert 'scipy.signal' not in sys.modules\n"
        "from scipy.signal import butter\n"
        "assert len(butter(2, 0.5)) == 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torchmetrics_is_an_ordinary_package() -> None:
    assert files(torchmetrics).joinpath("__init__.py").is_file()
    assert scipy.signal.butter is sys.modules["scipy.signal"].butter


def test_names_of_scipy_signal_are_found_during_the_import() -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "folder = Path(sys.argv[1])\n"
        "(folder / 'torchmetrics').mkdir()\n"
        "(folder / 'torchmetrics/__init__.py').write_text('from scipy.signal import butter')\n"
        "sys.path.insert(0, str(folder))\n"
        "import mprnet_lit, torchmetrics, scipy.signal\n"
        "assert torchmetrics.butter is scipy.signal.butter\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", code, folder], check=True)
