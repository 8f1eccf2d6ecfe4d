"""The built wheel: it carries its configuration and runs from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_a_wheel_runs_from_any_folder(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {n for n in archive.namelist() if n.startswith("mprnet_lit/conf/")}
        archive.extractall(tmp_path / "installed")
    assert packed == {
        f"mprnet_lit/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("conf/**/*.yaml")
    }

    # A user's own configuration comes from --config-dir.
    mine = tmp_path / "mine" / "experiment" / "gentle.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\noptimizer:\n  lr: 1.0e-5\n")
    done = subprocess.run(
        [sys.executable, "-m", "mprnet_lit", "--config-dir", "mine", "--cfg", "job",
         "experiment=gentle"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["optimizer"]["lr"] == 1e-5


def test_no_machine_of_ours_is_named_in_what_is_shipped():
    words = ("/root/", "/home/", "/tmp/")
    for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("conf/**/*.yaml"), ROOT / "README.md"]:
        assert not any(word in path.read_text() for word in words), path
