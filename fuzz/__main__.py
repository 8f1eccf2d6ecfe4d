"""``python -m fuzz``: fuzz each target in a separate process and count the outcomes.

Uses atheris if it is installed (``pip install '.[fuzz]'``), else random mutations of the seeds.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fuzz.contract import LIMIT

NAMES = ("images", "pairing", "config", "weights", "onnx", "mat", "store")
_INSTRUMENTED = ["mprnet_lit", "PIL"]
_MEMORY = 6000
"""Memory limit of a target process in megabytes."""


def main() -> None:
    """Parse the arguments, run the targets, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="number of inputs per target")
    parser.add_argument("--seconds", type=int, default=600, help="maximum seconds per target")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/fuzz"))
    parser.add_argument("--child", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.output = options.output.absolute()
    if options.child:
        _child(options)
        return
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "fuzz.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in options.only:
        results[name] = _run(name, options)
        file.write_text(json.dumps(results, indent=1) + "\n")
        print(_row(name, results[name]), flush=True)
    sys.exit(any(result["findings"] for result in results.values()))


def _row(name: str, result: dict[str, Any]) -> str:
    """Return a row of the table in docs/reliability.md, followed by the findings."""
    findings = result["findings"]
    timeouts = sum(
        count for what, count in findings.items() if "timeout" in what or "longer" in what
    )
    crashes = sum(findings.values()) - timeouts
    counts = [f"{result[key]:,}" for key in ("runs", "accepted", "refused")]
    times = [f"{result['slowest']:.2f} s", f"{result['seconds']} s"]
    row = f"| {' | '.join([name, *counts, str(crashes), str(timeouts), *times])} |"
    return "\n".join([row, *(f"  {count} x {what}" for what, count in findings.items())])


def _run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a target up to its limit of inputs or time, and restart it after a crash."""
    total: dict[str, Any] = {"runs": 0, "accepted": 0, "refused": 0, "slowest": 0.0}
    total["findings"] = {}
    started, seed = time.monotonic(), options.seed
    while True:
        runs = options.runs - total["runs"]
        seconds = int(options.seconds - (time.monotonic() - started))
        if runs <= 0 or seconds <= 0:
            total["seconds"] = round(time.monotonic() - started)
            return total
        state = options.output / f"{name}.state.json"
        state.unlink(missing_ok=True)
        limits = [f"--runs={runs}", f"--seconds={seconds}", f"--seed={seed}"]
        command = [sys.executable, "-m", "fuzz", "--child", name, *limits]
        command.append(f"--output={options.output}")
        log = options.output / f"{name}.log"
        with log.open("wb") as lines:
            done = subprocess.run(command, stdout=lines, stderr=lines)
        part = json.loads(state.read_text()) if state.exists() else {}
        for key in ("runs", "accepted", "refused"):
            total[key] += part.get(key, 0)
        total["slowest"] = max(total["slowest"], part.get("slowest", 0.0))
        found = part.get("findings", {})
        if done.returncode:
            text = log.read_text(errors="replace")
            what = next((w for w in ("timeout", "out-of-memory", "Segmentation") if w in text), "")
            found[f"process ended with {done.returncode} {what}".strip()] = 1
        for what, count in found.items():
            total["findings"][what] = total["findings"].get(what, 0) + count
        seed += 1
        if not part.get("runs"):
            return total | {"seconds": round(time.monotonic() - started)}


class _Counter:
    """Runs a target on inputs, counts the outcomes, and saves inputs that cause a finding."""

    def __init__(self, options: argparse.Namespace, action: Any, folder: Path) -> None:
        self.options, self.action, self.folder = options, action, folder
        self.counts: dict[str, Any] = {"runs": 0, "accepted": 0, "refused": 0, "slowest": 0.0}
        self.findings: dict[str, int] = {}
        self.written = 0.0

    def __call__(self, data: bytes) -> None:
        from fuzz.contract import Finding, attempt

        self.counts["runs"] += 1
        try:
            accepted, seconds = attempt(self.action, data, self.folder)
            self.counts["accepted" if accepted else "refused"] += 1
            self.counts["slowest"] = max(self.counts["slowest"], seconds)
        except Finding as finding:
            what = str(finding)
            if what not in self.findings:
                number = len(self.findings)
                kept = self.options.output / f"{self.options.child}.finding{number}"
                kept.write_bytes(data)
            self.findings[what] = self.findings.get(what, 0) + 1
        if self.counts["runs"] == self.options.runs or time.monotonic() - self.written > 1:
            self.write()

    def write(self) -> None:
        """Write the progress to the state file."""
        self.written = time.monotonic()
        state = self.options.output / f"{self.options.child}.state.json"
        state.write_text(json.dumps(self.counts | {"findings": self.findings}))


def _child(options: argparse.Namespace) -> None:
    with suppress(ImportError):
        import atheris

        with atheris.instrument_imports(include=_INSTRUMENTED):
            import fuzz.targets  # noqa: F401
    import warnings

    from fuzz.targets import TARGETS

    warnings.simplefilter("ignore")
    target = TARGETS[options.child]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "folder")
        folder.mkdir()
        seeds = target.seeds()
        os.chdir(folder)
        counter = _Counter(options, target.action, folder)
        if "atheris" not in sys.modules:
            _at_random(seeds, counter, options)
            return
        corpus = Path(name, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed)
        flags = [f"-runs={options.runs}", f"-max_total_time={options.seconds}",
                 f"-timeout={LIMIT:.0f}", f"-rss_limit_mb={_MEMORY}", f"-seed={options.seed}",
                 f"-artifact_prefix={options.output}/{options.child}.",
                 f"-max_len={max(map(len, seeds)) * 2}", "-len_control=0"]  # fmt: skip
        atheris.Setup([sys.argv[0], *flags, str(corpus)], counter)
        atheris.Fuzz()


def _at_random(
    seeds: Sequence[bytes], counter: Callable[[bytes], None], options: argparse.Namespace
) -> None:
    from fuzz.seeds import damaged

    rng, end = random.Random(options.seed), time.monotonic() + options.seconds
    for _ in range(options.runs):
        if time.monotonic() > end:
            break
        counter(damaged(rng.choice(seeds), rng))


if __name__ == "__main__":
    main()
