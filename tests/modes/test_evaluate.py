"""mode=evaluate as a user runs it, on tiny test sets in the published layouts."""

import csv
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from skimage.metrics import peak_signal_noise_ratio
from tests.data_.test_benchmarks import MAKERS, make_dnd, make_rain, make_repackaged, pair, put

from mprnet_lit.data.images import write_png
from mprnet_lit.models import MPRNet


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of a network that returns what it is given."""
    torch.manual_seed(0)
    model = MPRNet.from_size("tiny")
    model.start_from_identity()
    path = tmp_path_factory.mktemp("weights") / "identity.ckpt"
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    facts = {"size": asdict(model.size), "task": "denoise"}
    torch.save({"state_dict": state, "mprnet_lit": facts}, path)
    return path


@pytest.fixture
def evaluate(cli, weights):
    def run(*arguments, **options):
        return cli("mode=evaluate", f"weights={weights}", *arguments, **options)

    return run


def table(outcome):
    with outcome.file("scores.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", MAKERS)
def test_every_benchmark_in_its_published_layout(evaluate, tmp_path, name):
    root = tmp_path / "set"
    MAKERS[name](root)
    outcome = evaluate(f"benchmark={name}", f"benchmark.root={root}")
    scores, rows = outcome.json("scores.json"), table(outcome)
    assert scores["images"] == len(rows) >= 2
    assert list(rows[0]) == ["name", "psnr", "ssim", "psnr_degraded", "ssim_degraded"]
    for row in rows:  # the network is the identity
        assert float(row["psnr"]) == pytest.approx(float(row["psnr_degraded"]), abs=0.05)
        assert 20 < float(row["psnr"]) < 40 and 0.3 < float(row["ssim"]) < 1
    mean = np.mean([float(row["psnr"]) for row in rows])
    assert scores["means"]["psnr"] == pytest.approx(mean, abs=1e-4)
    figure = scores["published"][0]
    assert figure["difference"]["psnr"] == pytest.approx(mean - figure["psnr"], abs=1e-4)
    for text in (f"{figure['psnr']:.2f}", "degraded input", "TLC  off", "but published figures"):
        assert text in outcome.output
    assert outcome.file("worst_1.png") and outcome.file("report.html")


def test_gopro_scores_are_of_the_images_in_the_files(evaluate, tmp_path):
    make_repackaged(tmp_path / "set")
    rows = table(evaluate("benchmark=gopro", f"benchmark.root={tmp_path / 'set'}"))
    expected = [peak_signal_noise_ratio(clean, noisy) for noisy, clean in (pair(0), pair(1))]
    assert [float(row["psnr_degraded"]) for row in rows] == pytest.approx(expected, abs=1e-3)


def test_figures_are_compared_with_and_without_tlc_alike(evaluate, tmp_path):
    make_repackaged(tmp_path / "set")
    outcome = evaluate(
        "benchmark=hide", f"benchmark.root={tmp_path / 'set'}", "tlc=true", "tlc_crop=32", "tile=48"
    )
    plain, tlc = outcome.json("scores.json")["published"]
    assert plain["difference"] is None and list(tlc["difference"]) == ["psnr"]
    assert "TLC  on" in outcome.output and "tiling is on (48, " in outcome.output


def test_rain_is_the_mean_over_five_sets_however_many_images_each_has(evaluate, tmp_path):
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


def test_another_layout_can_be_given(evaluate, tmp_path):
    put(tmp_path / "set", ("hazy/1_in.png", "clear/1.png"))
    wanted = "benchmark.layouts=[{input: 'hazy/*_in', target: 'clear/*'}]"
    outcome = evaluate("benchmark=test100", f"benchmark.root={tmp_path / 'set'}", wanted)
    assert [row["name"] for row in table(outcome)] == ["hazy/1_in"]


def test_ones_own_pairs_of_16_bits(evaluate, tmp_path):
    for number, name in enumerate("ab"):
        noisy, clean = pair(number)
        write_png(tmp_path / f"blurry/{name}-in.png", noisy.astype(np.uint16) * 257)
        write_png(tmp_path / f"sharp/{name}.png", clean.astype(np.uint16) * 257)
    outcome = evaluate("input=blurry", "target=sharp", "input_pattern='*-in'", "target_pattern='*'")
    rows = table(outcome)
    assert [row["name"] for row in rows] == ["a-in", "b-in"]
    expected = [peak_signal_noise_ratio(clean, noisy) for noisy, clean in (pair(0), pair(1))]
    assert [float(row["psnr_degraded"]) for row in rows] == pytest.approx(expected, abs=1e-3)
    picture = cv2.imread(str(outcome.file("worst_1.png")))
    assert picture.shape == (48, 3 * 64, 3)


def test_dnd_writes_the_bundle(evaluate, tmp_path):
    make_dnd(tmp_path / "dnd")
    outcome = evaluate("benchmark=dnd", f"benchmark.root={tmp_path / 'dnd'}")
    content = scipy.io.loadmat(outcome.file("bundled/0002.mat"))
    noisy = pair(1)[0].astype(np.float32) / 255
    assert content["Idenoised"][0, 1] == pytest.approx(noisy[16:48, 8:48], abs=0.02)
    assert "4 crops of 2 images" in outcome.output


def test_two_processes_give_the_table_of_one(evaluate, shell, weights, tmp_path):
    numbers = range(3)  # one has to be repeated
    put(tmp_path / "set", *((f"input/{n}.png", f"target/{n}.png") for n in numbers))
    common = ["benchmark=realblur_j", f"benchmark.root={tmp_path / 'set'}"]
    one = evaluate(*common, "paths.runs=runs/one").file("one/**/scores.csv").read_text()
    arguments = ["mode=evaluate", f"weights={weights}", *common]
    two = shell(*arguments, "trainer.devices=2", "paths.runs=runs/two")
    assert two.file("two/**/scores.csv").read_text() == one
    assert two.output.count("degraded input") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "nothing to evaluate on"),
        (("input=blurry",), "target=FOLDER"),
        (("benchmark=hide", "input=blurry", "target=sharp"), "both set"),
        (("benchmark=hide",), "data/HIDE holds no test set hide"),
        (
            ("benchmark=hide", "benchmark.root=.", "benchmark.layouts=[{input: .}]"),
            "must have 'input' and 'target'",
        ),
        (("benchmark=hid",), "did you mean 'hide'"),
    ],
)
def test_mistakes_get_a_sentence(evaluate, arguments, sentence):
    errors = evaluate(*arguments, status=1).errors
    assert sentence in errors and "Traceback" not in errors
