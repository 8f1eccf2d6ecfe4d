"""``mode=evaluate``: score a network on a published test set or on custom pairs."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from lightning import LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mprnet_lit.cli import common as arguments
from mprnet_lit.cli.restorer import build_restorer
from mprnet_lit.data.sources import PairedFolders
from mprnet_lit.evaluation.dnd import find_dnd_images
from mprnet_lit.evaluation.evaluator import Evaluation, Submission, TestSet
from mprnet_lit.evaluation.results import Result, write_result
from mprnet_lit.evaluation.test_sets import choose_layout, find_image_files, find_test_images
from mprnet_lit.inference import Restorer
from mprnet_lit.metrics.iqa import IqaScores, load_metrics
from mprnet_lit.metrics.protocols import PROTOCOLS, PerceptualScores, Protocol
from mprnet_lit.runs.provenance import save_provenance
from mprnet_lit.training.callbacks.peer_check import lost_connection
from mprnet_lit.training.trainer import build_trainer
from mprnet_lit.utils.console import print_line, print_table, silence_lightning
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import free_bytes
from mprnet_lit.utils.outbox import uploaded
from mprnet_lit.utils.url import refuse_url

_MEMORY_SHARE = 0.9
"""Fraction of the free memory for tile=auto; high because tiles change the scores."""


def run(config: DictConfig) -> float | None:
    """Evaluate a network; return the mean PSNR in dB, or ``None`` without targets."""
    silence_lightning()
    with uploaded(arguments.place(config, "output"), overwrite=True, is_folder=True) as folder:
        return _evaluate(config, folder.resolve())


def _evaluate(config: DictConfig, folder: Path) -> float | None:
    benchmark = config.get("benchmark")
    if benchmark is not None and benchmark.protocol is None:  # no public targets
        _submit(config, folder)
        return None
    protocol = _protocol(config)
    measures: list[Callable[[], Protocol]] = [PROTOCOLS[protocol], *_more_measures(config)]
    trainer = _trainer(config)
    restorer = _restorer(config, trainer)  # report errors before the slow file search
    sets = _sets(config)
    evaluation = Evaluation(restorer, sets, measures)
    _test(trainer, evaluation)
    result = Result(
        name="your pairs" if benchmark is None else str(benchmark.name),
        protocol=protocol,
        sets=sets,
        published=[] if benchmark is None else _published(benchmark),
        rows=evaluation.rows,
        settings=_settings(restorer, [row.tiles for row in evaluation.rows]),
        tlc=bool(config.inference.tlc),
        directions={k: v for metric in evaluation.restored for k, v in metric.directions.items()},
    )
    if trainer.is_global_zero:
        save_provenance(config, folder)
        write_result(result, folder, restorer, Console())
    psnr = result.mean["psnr"]
    return None if math.isnan(psnr) else psnr


def _protocol(config: DictConfig) -> str:
    """Return the protocol of the benchmark, or ``evaluate.protocol`` for custom pairs."""
    benchmark, own = config.get("benchmark"), config.evaluate.protocol
    if benchmark is not None and own is not None:
        raise UserError(
            f"evaluate.protocol={own} is for your own pairs, but benchmark={benchmark.name} "
            "defines its own protocol: remove one of the two settings"
        )
    key = "evaluate.protocol" if benchmark is None else "benchmark.protocol"
    protocol = (own or "rgb") if benchmark is None else benchmark.protocol
    if protocol not in PROTOCOLS:
        raise UserError(f"{key}={protocol} must be one of {', '.join(PROTOCOLS)}")
    return str(protocol)


def _more_measures(config: DictConfig) -> list[Callable[[], Protocol]]:
    """Return the metrics of ``evaluate.perceptual`` and ``evaluate.metrics``."""
    measures: list[Callable[[], Protocol]] = []
    names = list(config.evaluate.metrics)
    if config.evaluate.perceptual:
        measures.append(PerceptualScores)
        if both := {*PerceptualScores.columns} & {*names}:
            raise UserError(
                f"evaluate.metrics contains {' and '.join(sorted(both))}, which are also metrics "
                "of evaluate.perceptual=true: remove one of the two"
            )
    if names:
        measures.append(partial(IqaScores, load_metrics(names)))  # the same for both images
    return measures


def _settings(restorer: Restorer, tiles: Sequence[int]) -> dict[str, str]:
    """Return the active options, and the number of tiled images."""
    tiled = sum(count > 1 for count in tiles)
    tiling = f"{restorer.settings['tiling']}; {tiled} of {len(tiles)} images" if tiled else "off"
    return restorer.settings | {"tiling": tiling}


def _sets(config: DictConfig) -> list[TestSet]:
    """Find the images of the benchmark, or of ``input`` and ``evaluate.target``."""
    options, benchmark = config.evaluate, config.get("benchmark")
    if benchmark is not None:
        if config.input is not None or options.target is not None:
            raise UserError(
                "benchmark and input or evaluate.target are both set: remove one of them (the "
                "folder of a benchmark is benchmark.root)"
            )
        nodes = [benchmark] if "sets" not in benchmark else list(benchmark.sets.values())
        return [
            TestSet(
                str(node.name),
                find_test_images(str(node.name), _root(node), _layouts(node), options.on_error),
                _published(node),
                node.images,
            )
            for node in nodes
        ]
    if config.input is None or options.target is None:
        raise UserError(
            "there are no images to evaluate: add benchmark=NAME, or input=FOLDER and "
            "evaluate.target=FOLDER (without targets, use mode=restore)"
        )
    folders = PairedFolders(
        arguments.place(config, "input"),
        arguments.place(config, "evaluate.target"),
        options.input_pattern,
        options.target_pattern,
    )
    return [TestSet("your pairs", find_image_files(folders, options.on_error))]


def _submit(config: DictConfig, folder: Path) -> None:
    """Restore the images of DND and write the submission bundle."""
    node = config.benchmark
    root = _root(node)
    layout = choose_layout(str(node.name), root, _layouts(node))
    images = find_dnd_images(root / layout["info"], root / layout["scenes"])
    trainer = _trainer(config)
    restorer = _restorer(config, trainer)
    submission = Submission(restorer, images, folder / "bundled")
    _test(trainer, submission)
    if not trainer.is_global_zero:
        return
    save_provenance(config, folder)
    console = Console()
    print_table(console, _settings(restorer, submission.tiles))
    crops = sum(len(image.boxes) for image in images)
    lines = [
        f"Restored {crops} crops of {len(images)} images; there are no targets, so no scores.",
        f"Send the files in {submission.folder} to the benchmark's server.",
        *(f"Published: PSNR {p['psnr']:.2f}, SSIM {p['ssim']:.3f}" for p in _published(node)),
    ]
    for line in lines:
        print_line(console, line)


def _trainer(config: DictConfig) -> Trainer:
    # The Restorer applies inference.precision; Lightning's precision would affect the metrics too.
    return build_trainer(config, precision="32-true", enable_progress_bar=Console().is_terminal)


def _test(trainer: Trainer, module: LightningModule) -> None:
    """Restore all images.

    Raises:
        UserError: another process of the evaluation was lost.
    """
    try:
        trainer.test(module, verbose=False)
    except Exception as error:
        if text := lost_connection(error):
            raise UserError(
                "another process of this evaluation ended or can't be reached; the output of that "
                "process may state the cause: repeat the command (the message of the connection: "
                f"{text})"
            ) from error
        raise


def _restorer(config: DictConfig, trainer: Trainer) -> Restorer:
    """Build the Restorer on ``inference.device``.

    ``auto`` and the type of the trainer, such as ``cuda``, mean the device of this process.
    """
    inference, own = config.inference, trainer.strategy.root_device
    device = own if inference.device in ("auto", own.type) else inference.device
    restorer = build_restorer(config, device=str(device))
    if inference.tile == "auto" and inference.memory_gb is None:
        processes = trainer.num_devices if restorer.device.type == "cpu" else 1
        restorer.memory_gb = _MEMORY_SHARE * free_bytes(restorer.device) / processes / 1e9
    return restorer


def _root(node: DictConfig) -> Path:
    refuse_url("benchmark.root", node.root, "download the test set")
    return Path(node.root)


def _published(node: DictConfig) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], OmegaConf.to_container(node.published, resolve=True))


def _layouts(node: DictConfig) -> list[dict[str, str]]:
    return cast(list[dict[str, str]], OmegaConf.to_container(node.layouts))
