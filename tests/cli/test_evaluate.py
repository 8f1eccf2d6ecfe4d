"""``mode=evaluate`` on tiny test sets in the published layouts."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from lightning import Trainer
from skimage.metrics import peak_signal_noise_ratio
from tests.conftest import Cli, Outcome
from tests.evaluation.test_test_sets import MAKERS, make_dnd, make_rain, make_repackaged, pair, put

from mprnet_lit.images.reading import read_image, write_png
from mprnet_lit.metrics import PROTOCOLS
from mprnet_lit.models import MPRNet


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a network that returns its input."""
    torch.manual_seed(0)
    model = MPRNet(8, 4, 4, 1)
    model.start_from_identity()
    path = tmp_path_factory.mktemp("weights") / "identity.ckpt"
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    facts = {"size": asdict(model.size), "task": "denoise"}
    torch.save({"state_dict": state, "mprnet_lit": facts}, path)
    return path


@pytest.fixture
def evaluate(cli: Cli, weights: Path) -> Cli:
    def run(*arguments: str, **options: Any) -> Outcome:
        return cli("mode=evaluate", f"weights={weights}", *arguments, **options)

    return run


def table(outcome: Outcome) -> list[Any]:
    with outcome.file("scores.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", MAKERS)
def test_every_benchmark_is_evaluated_in_its_published_layout(
    evaluate: Cli, tmp_path: Path, name: Any
) -> None:
    root = tmp_path / "set"
    MAKERS[name](root)
    outcome = evaluate(f"benchmark={name}", f"benchmark.root={root}")
    scores, rows = outcome.json("scores.json"), table(outcome)
    assert scores["images"] == len(rows) >= 2
    assert list(rows[0]) == ["name", "psnr", "ssim", "psnr_degraded", "ssim_degraded", "tiles"]
    assert {row["tiles"] for row in rows} == {"1"} and scores["images_in_tiles"] == 0
    for row in rows:  # the network is the identity
        assert float(row["psnr"]) == pytest.approx(float(row["psnr_degraded"]), abs=0.05)
        assert 20 < float(row["psnr"]) < 40 and 0.3 < float(row["ssim"]) < 1
    mean = np.mean([float(row["psnr"]) for row in rows])
    assert scores["means"]["psnr"] == pytest.approx(mean, abs=1e-4)
    figure = scores["published"][0]
    assert figure["difference"]["psnr"] == pytest.approx(mean - figure["psnr"], abs=1e-4)
    for text in (f"{figure['psnr']:.2f}", "degraded input", "TLC  off", "but the published scores"):
        assert text in outcome.output
    assert scores["settings"]["tiling"] == "off" and "tiling  off" in outcome.output
    assert outcome.file("worst_1.png") and outcome.file("report.html")


def test_gopro_scores_equal_scores_of_the_files(evaluate: Cli, tmp_path: Path) -> None:
    make_repackaged(tmp_path / "set")
    rows = table(evaluate("benchmark=gopro", f"benchmark.root={tmp_path / 'set'}"))
    expected = [peak_signal_noise_ratio(clean, noisy) for noisy, clean in (pair(0), pair(1))]
    assert [float(row["psnr_degraded"]) for row in rows] == pytest.approx(expected, abs=1e-3)


def test_published_scores_are_compared_with_and_without_tlc(evaluate: Cli, tmp_path: Path) -> None:
    make_repackaged(tmp_path / "set")
    outcome = evaluate(
        "benchmark=hide", f"benchmark.root={tmp_path / 'set'}",
        "inference.tlc=true", "inference.tlc_crop=32", "inference.tile=48",
        "inference.strength=0.5",
    )  # fmt: skip
    plain, tlc = outcome.json("scores.json")["published"]
    assert plain["difference"] is None and list(tlc["difference"]) == ["psnr"]
    assert "TLC  on" in outcome.output and "tiling is on (48, " in outcome.output
    assert "strength is 0.5, but 1 in the published scores" in outcome.output


def test_rain_score_is_the_unweighted_mean_of_five_sets(evaluate: Cli, tmp_path: Path) -> None:
    sets = {"rain100h": "Rain100H", "rain100l": "Rain100L"}
    sets |= {f"test{n}": f"Test{n}" for n in (100, 1200, 2800)}
    for place, folder in enumerate(sets.values()):
        root = tmp_path / folder
        make_rain(root) if place else put(root, ("input/x.jpg.png", "target/x.jpg.png"))
    roots = [f"benchmark.sets.{n}.root={tmp_path / folder}" for n, folder in sets.items()]
    outcome = evaluate("benchmark=rain", *roots)
    scores = outcome.json("scores.json")
    assert list(scores["sets"]) == list(sets) and scores["images"] == 9
    each = [s["means"]["psnr"] for s in scores["sets"].values()]
    assert scores["means"]["psnr"] == pytest.approx(np.mean(each))
    assert table(outcome)[1]["name"] == "rain100l/rain-001"
    assert scores["published"][0]["psnr"] == 32.73 and "mean of the sets" in outcome.output


def test_custom_layout_is_accepted(evaluate: Cli, tmp_path: Path) -> None:
    put(tmp_path / "set", ("hazy/1_in.png", "clear/1.png"))
    wanted = "benchmark.layouts=[{input: 'hazy/*_in', target: 'clear/*'}]"
    outcome = evaluate("benchmark=test100", f"benchmark.root={tmp_path / 'set'}", wanted)
    assert [row["name"] for row in table(outcome)] == ["hazy/1_in"]


def test_custom_pairs_with_16_bits_are_evaluated(evaluate: Cli, tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        noisy, clean = pair(number)
        write_png(tmp_path / f"blurry/{name}-in.png", noisy.astype(np.uint16) * 257)
        write_png(tmp_path / f"sharp/{name}.png", clean.astype(np.uint16) * 257)
    patterns = ("evaluate.input_pattern='*-in'", "evaluate.target_pattern='*'")
    outcome = evaluate("input=blurry", "evaluate.target=sharp", *patterns)
    rows = table(outcome)
    assert [row["name"] for row in rows] == ["a-in", "b-in"]
    expected = [peak_signal_noise_ratio(clean, noisy) for noisy, clean in (pair(0), pair(1))]
    assert [float(row["psnr_degraded"]) for row in rows] == pytest.approx(expected, abs=1e-3)
    picture = cv2.imread(str(outcome.file("worst_1.png")))
    assert picture is not None and picture.shape == (48, 3 * 64, 3)


@pytest.fixture
def pairs(tmp_path: Path) -> None:
    """Two pairs, of 48 x 64 and 96 x 128 pixels."""
    for number in range(2):
        for folder, image in zip(("noisy", "clean"), pair(number), strict=True):
            image = np.tile(image, (1 + number, 1 + number, 1))
            write_png(tmp_path / folder / f"{number}.png", image)


@pytest.mark.parametrize("protocol", ["derain", "sidd", "realblur"])
def test_custom_pairs_are_evaluated_by_any_protocol(
    evaluate: Cli, pairs: None, tmp_path: Path, protocol: str
) -> None:
    outcome = evaluate("noisy", "clean", f"evaluate.protocol={protocol}")
    rows, scores = table(outcome), outcome.json("scores.json")
    assert scores["protocol"] == protocol and protocol in outcome.output
    metric = PROTOCOLS[protocol]()
    for number in range(2):
        images = (read_image(tmp_path / f"{folder}/{number}.png") for folder in ("noisy", "clean"))
        degraded, target = (torch.from_numpy(i).permute(2, 0, 1)[None] for i in images)
        metric.update(number, degraded / 255, target)
    for row, expected in zip(rows, metric.compute().values(), strict=True):
        assert float(row["psnr_degraded"]) == pytest.approx(expected["psnr"], abs=1e-4)
        assert float(row["ssim_degraded"]) == pytest.approx(expected["ssim"], abs=1e-5)


def test_image_larger_than_memory_is_tiled_and_marked_in_the_scores(
    evaluate: Cli, pairs: None
) -> None:
    outcome = evaluate("noisy", "clean", "inference.memory_gb=0.0075")
    scores = outcome.json("scores.json")
    assert scores["images_in_tiles"] == 1
    assert scores["settings"]["tiling"] == "auto, overlap 32; 1 of 2 images"
    assert [row["tiles"] for row in table(outcome)] == ["1", "6"]
    for text in (outcome.output, outcome.file("report.html").read_text()):
        assert "restored, 1 of 2 images in tiles" in text
    assert "Tiling changes the scores" in outcome.output


def test_memory_share_is_larger_for_whole_images_than_for_tiles(
    evaluate: Cli, pairs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The estimate for 96 x 128 pixels is 14 MB, between 50% and 90% of 20 MB.
    monkeypatch.setattr("mprnet_lit.cli.evaluate.free_bytes", lambda _: 20e6)
    monkeypatch.setattr("mprnet_lit.inference.tile_size.free_bytes", lambda _: 20e6)
    scores = evaluate("noisy", "clean").json("scores.json")
    assert scores["images_in_tiles"] == 0 and scores["settings"]["tiling"] == "off"


def test_dnd_writes_the_submission_bundle(evaluate: Cli, tmp_path: Path) -> None:
    make_dnd(tmp_path / "dnd")
    outcome = evaluate("benchmark=dnd", f"benchmark.root={tmp_path / 'dnd'}")
    content = scipy.io.loadmat(outcome.file("bundled/0002.mat"))
    noisy = pair(1)[0].astype(np.float32) / 255
    assert content["Idenoised"][0, 1] == pytest.approx(noisy[16:48, 8:48], abs=0.02)
    assert "4 crops of 2 images" in outcome.output and "tiling  off" in outcome.output
    arguments = ("benchmark=dnd", "benchmark.root=dnd", "inference.tile=24", "inference.overlap=8")
    assert "tiling  24, overlap 8; 2 of 2 images" in evaluate(*arguments).output


def test_two_processes_write_the_same_table_as_one(
    evaluate: Cli, shell: Cli, weights: Path, tmp_path: Path
) -> None:
    numbers = range(3)  # one image is repeated
    put(tmp_path / "set", *((f"input/{n}.png", f"target/{n}.png") for n in numbers))
    common = ["benchmark=realblur_j", f"benchmark.root={tmp_path / 'set'}"]
    one = evaluate(*common, "paths.runs=runs/one").file("one/**/scores.csv").read_text()
    arguments = ["mode=evaluate", f"weights={weights}", *common]
    two = shell(*arguments, "trainer.devices=2", "paths.runs=runs/two")
    assert two.file("two/**/scores.csv").read_text() == one
    assert two.output.count("degraded input") == 1


def test_lost_process_is_reported_in_one_sentence(
    evaluate: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, ("input/1.png", "target/1.png"))

    def lose(*_: Any, **__: Any) -> None:
        raise RuntimeError("[/src/gloo/transport/tcp/pair.cc:534] Connection closed by peer")

    monkeypatch.setattr(Trainer, "test", lose)
    errors = evaluate("input=input", "evaluate.target=target", status=1).errors
    assert "another process of this evaluation ended" in errors and "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "there are no images to evaluate"),
        (("input=blurry",), "evaluate.target=FOLDER"),
        (("benchmark=hide", "input=blurry", "evaluate.target=sharp"), "both set"),
        (("benchmark=hide",), "data/HIDE does not contain the test set hide"),
        (
            ("benchmark=hide", "benchmark.root=.", "benchmark.layouts=[{input: .}]"),
            "must have 'input' and 'target'",
        ),
        (("benchmark=hid",), "did you mean 'hide'"),
        (("inference.device=foo",), "inference.device=foo can't be used here"),
        (("inference.device=cuda:99",), "inference.device=cuda:99 can't be used here"),
        (
            ("input=noisy", "evaluate.target=clean", "evaluate.protocol=psnr"),
            "evaluate.protocol=psnr must be one of rgb, deblur, derain",
        ),
        (("benchmark=gopro", "evaluate.protocol=rgb"), "evaluate.protocol=rgb is for your own"),
        (("benchmark=gopro", "benchmark.protocol=x"), "benchmark.protocol=x must be one of"),
        (("input=[a,b]", "evaluate.target=c"), "input=['a', 'b'] must name one file or folder"),
    ],
)
def test_user_errors_are_one_sentence(
    evaluate: Cli, arguments: tuple[str, ...], sentence: str
) -> None:
    errors = evaluate(*arguments, status=1).errors
    assert sentence in errors and "Traceback" not in errors
