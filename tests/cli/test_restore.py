"""``mode=restore`` and ``mode=convert`` on the command line."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from tests.cli.test_bad_input import error_message
from tests.config.test_config import compose
from tests.conftest import PHOTOS, Cli
from tests.reports.page_reading import embedded_data

from mprnet_lit import Restorer, weights
from mprnet_lit.cli import restore, restore_outputs, restore_video
from mprnet_lit.inference.change import mean_change
from mprnet_lit.models import MPRNet
from mprnet_lit.runs.files import flatten
from mprnet_lit.utils.errors import UserError
from mprnet_lit.video import batches, segments
from mprnet_lit.weights import Info


@pytest.fixture
def model() -> MPRNet:
    torch.manual_seed(0)
    return MPRNet(8, 4, 4, 1)


@pytest.fixture
def folder(tmp_path: Path, model: MPRNet) -> Path:
    """Folder with weights and with photos of several kinds."""
    weights.save(model, tmp_path / "w.safetensors", Info("denoise", 64))
    cat = Image.open(PHOTOS / "chelsea.png").crop((100, 50, 175, 111))
    (tmp_path / "in" / "more").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    cat.save(tmp_path / "in" / "cat.jpg", exif=exif)
    cat.putalpha(Image.linear_gradient("L").resize(cat.size))
    cat.save(tmp_path / "in" / "more" / "cat.PNG", icc_profile=b"profile")
    return tmp_path


RUN = ("mode=restore", "weights=w.safetensors")


def test_folder_is_restored_once_with_names_subfolders_and_formats_kept(
    cli: Cli, folder: Path, model: MPRNet
) -> None:
    outcome = cli(*RUN, "input=in", "output=out")
    assert "2 restored" in outcome.output
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    results = ["out/.mprnet_lit.jsonl", "out/cat.jpg"]
    results += ["out/more/.mprnet_lit.jsonl", "out/more/cat.PNG"]
    expected = ["in/cat.jpg", "in/more/cat.PNG", *results, "w.safetensors"]
    assert found == expected, "no other file is written"

    before, after = (Image.open(folder / side / "more" / "cat.PNG") for side in ("in", "out"))
    assert after.mode == "RGBA" and after.info["icc_profile"] == b"profile"
    assert after.getchannel("A").tobytes() == before.getchannel("A").tobytes()
    restored = Restorer(model, device="cpu")(np.array(before.convert("RGB")))
    assert np.array_equal(np.array(after.convert("RGB")), restored)
    jpeg = Image.open(folder / "out" / "cat.jpg")
    assert jpeg.size == (61, 75), "rotated upright"
    assert dict(jpeg.getexif())[0x010F] == "Maker" and jpeg.getexif().get(0x0112, 1) == 1

    assert "2 of 2 are already restored" in cli(*RUN, "input=in", "output=out").output
    (folder / "out" / "cat.jpg").write_bytes(b"mine")
    message = error_message(cli(*RUN, "input=in", "output=out", status=1))
    assert "out/cat.jpg is not a result of mprnet_lit, or was changed since" in message
    assert "in/cat.jpg would overwrite it" in message
    assert (folder / "out" / "cat.jpg").read_bytes() == b"mine"
    cli(*RUN, "input=in", "output=out", "overwrite=true")
    assert Image.open(folder / "out" / "cat.jpg").size == (61, 75)


def test_damaged_file_does_not_stop_the_others(cli: Cli, folder: Path) -> None:
    (folder / "in" / "a.png").write_bytes(b"nothing")
    cut = (folder / "in" / "cat.jpg").read_bytes()[:-200]
    (folder / "in" / "cut.jpg").write_bytes(cut)
    message = error_message(cli(*RUN, "input=in", "output=out", status=1))
    assert "2 of 4 files could not be restored" in message
    assert "in/a.png is not an image" in message and "in/cut.jpg can't be read" in message
    assert (folder / "out" / "cat.jpg").is_file() and (
        folder / "out" / "more" / "cat.PNG"
    ).is_file()
    assert not list((folder / "out").rglob("*.part"))


def test_single_file_is_restored_with_stages_comparison_and_report(
    cli: Cli, folder: Path, model: MPRNet
) -> None:
    cli(
        *RUN,
        "input=in/more/cat.PNG",
        "output=one.tif",
        "restore.stages=true",
        "restore.compare=true",
        "restore.report=true",
        "inference.tile=48",
        "inference.overlap=16",
    )
    before = np.array(Image.open(folder / "in" / "more" / "cat.PNG").convert("RGB"))
    restored = Restorer(model, tile=48, overlap=16, device="cpu")(before)
    after = Image.open(folder / "one.tif")
    assert np.array_equal(np.array(after.convert("RGB")), restored)
    side_by_side = np.array(Image.open(folder / "one.tif.compare.png"))
    assert np.array_equal(side_by_side, np.concatenate((before, restored), 1))
    for stage in (1, 2):
        assert Image.open(folder / f"one.tif.stage{stage}.png").size == after.size
    page = (folder / "report.html").read_text()
    assert "cat.PNG" in page and "w.safetensors" in page
    settings = embedded_data(page)["settings"]
    assert settings["restored"] == "1 photo" and settings["results in"] == "one.tif"


def test_report_names_the_weights_in_the_package_without_their_folder(
    cli: Cli, folder: Path
) -> None:
    Image.new("RGB", (16, 16)).save(folder / "dot.png")
    cli("mode=restore", "input=dot.png", "output=out", "restore.report=true")
    data = embedded_data((folder / "out" / "report.html").read_text())
    assert data["settings"]["weights"] == "denoise (in the package)"
    assert data["summary"] == [], "the page starts with the photo, not with an empty table"


def test_report_states_that_it_shows_the_center_of_a_large_photo(cli: Cli, folder: Path) -> None:
    Image.new("RGB", (1040, 16)).save(folder / "wide.png")
    cli(*RUN, "input=wide.png", "output=out", "restore.report=true")
    page = (folder / "out" / "report.html").read_text()
    assert '"name":"wide.png"' in page and '"cropped":"1040 x 16"' in page
    assert '"width":1024,"height":16' in page


def test_glob_with_16_bit_photos_and_options(cli: Cli, folder: Path, model: MPRNet) -> None:
    rng = np.random.default_rng(0)
    import cv2

    deep = rng.integers(0, 65536, (40, 33, 3), dtype=np.uint16)
    cv2.imwrite(str(folder / "in" / "more" / "deep.png"), deep)
    options = ("inference.tlc=true", "inference.self_ensemble=true")
    outcome = cli(*RUN, "input='in/**/*.png'", "output=out", *options)
    assert "1 restored" in outcome.output
    for setting in ("TLC  on, training crop 64", "self-ensemble  x8"):
        assert setting in outcome.output
    found = cv2.imread(str(folder / "out" / "more" / "deep.png"), cv2.IMREAD_UNCHANGED)
    assert found is not None and found.dtype == np.uint16
    restorer = Restorer(model, tlc=True, tlc_crop=64, self_ensemble=True, device="cpu")
    expected = restorer(deep[..., ::-1])[..., ::-1]
    np.testing.assert_allclose(found.astype(int), expected.astype(int), rtol=0, atol=1)


def test_file_name_of_255_bytes_is_restored(cli: Cli, folder: Path) -> None:
    """The temporary file must not have a longer name than the result."""
    name = "é" * 125 + "a.png"
    assert len(name.encode()) == 255
    (folder / "in" / "more" / "cat.PNG").rename(folder / "in" / "more" / name)
    arguments = (*RUN, "input=in/more", "output=out")
    before = sorted(folder.rglob("*"))
    for what in ("restore.stages=true", "restore.compare=true"):
        message = error_message(cli(*arguments, what, status=1))
        assert (
            "bytes too long: shorten the name, or set restore.stages and restore.compare to"
            in message
        )
    assert sorted(folder.rglob("*")) == before
    cli(*arguments)
    assert Image.open(folder / "out" / name).size == (75, 61)
    assert "1 of 1 are already restored" in cli(*arguments).output


def test_heic_jfif_and_avif_keep_their_format(cli: Cli, folder: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    cat = Image.open(folder / "in" / "cat.jpg")
    exif = cat.info["exif"]
    (folder / "phone").mkdir()
    for name, kind in (("a.HEIC", "HEIF"), ("b.jfif", "JPEG"), ("c.avif", "AVIF")):
        cat.save(folder / "phone" / name, kind, exif=exif, icc_profile=b"profile")
    assert "3 restored" in cli(*RUN, "input=phone", "output=out").output
    for name, kind in (("a.HEIC", "HEIF"), ("b.jfif", "JPEG"), ("c.avif", "AVIF")):
        with Image.open(folder / "out" / name) as restored:
            assert (restored.format, restored.size) == (kind, (61, 75))
            assert restored.getexif()[0x010F] == "Maker"
            assert restored.getexif().get(0x0112, 1) == 1
            assert restored.info["icc_profile"] == b"profile"


def test_gif_is_refused_with_a_conversion_command(cli: Cli, folder: Path) -> None:
    Image.new("P", (16, 16)).save(folder / "still.gif")
    assert "magick still.gif still.png" in error_message(cli(*RUN, "input=still.gif", status=1))


def test_video_is_restored(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")

    photo = np.array(Image.open(PHOTOS / "chelsea.png"))
    with av.open(str(folder / "in" / "clip.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        for k in range(4):
            frame = np.ascontiguousarray(photo[100:148, 8 * k : 8 * k + 64])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode())
    outcome = cli(*RUN, "input=in/clip.mp4", "output=out")
    note = "in/clip.mp4: the output drops full color resolution (4:2:0 is written)"
    assert note in outcome.output.splitlines()
    with av.open(str(folder / "out" / "clip.mp4")) as restored:
        frames = list(restored.decode(video=0))
    assert [(f.width, f.height) for f in frames] == [(64, 48)] * 4

    unrestored = cli(*RUN, "input=in/clip.mp4", "output=as_before", "inference.strength=0")
    assert "clip.mp4: changed by 0.0 of 255 levels on average" in unrestored.output
    with av.open(str(folder / "as_before" / "clip.mp4")) as video:
        unchanged = list(video.decode(video=0))
    for k, frame in enumerate(unchanged):
        source = photo[100:148, 8 * k : 8 * k + 64].astype(float)
        error, change = (
            np.abs(f.to_ndarray(format="rgb24") - source).mean() for f in (frame, frames[k])
        )
        assert error < 10 < change, "only the encoder changes the frame"

    for module in (batches, segments):
        monkeypatch.setattr(module, "SECONDS", 0.01)
        monkeypatch.setattr(module, "MIN_FRAMES", 2)
    measured = []
    save = segments.Segments.save

    def save_one(store: Any, number: int, segment: Any) -> None:
        if number == 1:
            raise UserError("the disk is full")
        save(store, number, segment)

    def measure(before: Any, after: Any) -> float:
        measured.append(after)
        return mean_change(before, after)

    with monkeypatch.context() as patch:
        patch.setattr(segments.Segments, "save", save_one)
        cli(*RUN, "input=in/clip.mp4", "output=resumed", status=1)
    (unfinished,) = (folder / "resumed").iterdir()
    assert unfinished.name.endswith(".unfinished")
    monkeypatch.setattr(restore_video, "mean_change", measure)
    resumed = cli(*RUN, "input=in/clip.mp4", "output=resumed")
    assert len(measured) == 2, "the two frames of the first segment are not restored again"
    (change,) = (line for line in outcome.output.splitlines() if "changed by" in line)
    assert change in resumed.output
    assert not unfinished.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("input=in", "task.name=dehaze"), "the package has no weights for dehaze"),
        (("weights=w.safetensors",), "input is not set: add input=VALUE"),
        (("weights=w.safetensors", "input=none.png"), "there is no file or folder none.png"),
        (("weights=w.safetensors", "input='in/*.gif'"), "no image or video matches in/*.gif"),
        (("weights=w.safetensors", "input=w.safetensors"), "is not an image or a video"),
        (
            ("weights=w.safetensors", "input=in", "output=in"),
            "would be overwritten, but is an input file",
        ),
        (("weights=none.pth", "input=in"), "the weights file none.pth does not exist"),
        (("weights=w.safetensors", "input=in", "inference.tile=100"), "inference.tile=100 must be"),
        (("weights=w.safetensors", "input=IMG (1).png"), "there is no file or folder IMG (1).png"),
        (("weights=w (1).pth", "task.name=a (1)"), """single quotes: 'task.name="a (1)"'"""),
        (("weights=w.safetensors", "input=2024"), "there is no file or folder 2024"),
        (("weights=2024", "input=in"), "the weights file 2024 does not exist"),
        (("weights=w.safetensors", "inptu=in"), "did you mean 'input'?"),
    ],
)
def test_user_errors_name_the_invalid_value(
    cli: Cli, folder: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    before = sorted(folder.rglob("*"))
    assert sentence in error_message(cli("mode=restore", *arguments, status=1))
    assert sorted(folder.rglob("*")) == before


def test_input_is_never_overwritten(cli: Cli, folder: Path) -> None:
    shutil.copy(folder / "in" / "cat.jpg", folder / "in" / "more")
    before = (folder / "in" / "more" / "cat.jpg").read_bytes()
    arguments = ("input='in/**/*.*'", "output=in/more", "overwrite=true")
    assert "in/more/cat.jpg would be overwritten" in error_message(cli(*RUN, *arguments, status=1))
    assert (folder / "in" / "more" / "cat.jpg").read_bytes() == before


def test_names_that_look_like_markup_are_printed_literally(cli: Cli, folder: Path) -> None:
    (folder / "in" / "cat.jpg").rename(folder / "in" / "c[red]at.jpg")
    assert "into out[/y]" in cli(*RUN, "input=in", 'output="out[/y]"').output
    assert (folder / "out[" / "y]" / "c[red]at.jpg").is_file()


def test_results_inside_the_input_folder_are_not_restored_again(cli: Cli, folder: Path) -> None:
    cli(*RUN, "input=in", "output=in/restored")
    assert "2 of 2 are already restored" in cli(*RUN, "input=in", "output=in/restored").output


def test_convert_changes_the_format_of_weights(cli: Cli, folder: Path, model: MPRNet) -> None:
    outcome = cli("mode=convert", "weights=w.safetensors", "output=w.pth")
    for line in ("task  denoise", "patches of 64 pixels", "parameters"):
        assert line in outcome.output
    read = weights.read(folder / "w.pth")
    assert read.info.crop == 64
    assert all(
        torch.equal(a, b) for a, b in zip(read.model.parameters(), model.parameters(), strict=True)
    )
    again = ("mode=convert", "weights=w.safetensors", "output=w.pth")
    assert "already exists" in error_message(cli(*again, status=1))
    shutil.rmtree(folder / "in")
    assert sorted(p.name for p in folder.iterdir()) == ["w.pth", "w.safetensors"]


def test_ctrl_c_leaves_complete_files_and_no_traceback(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(restore_outputs, "write_photo", interrupted)
    message = error_message(cli(*RUN, "input=in", "output=out", status=130))
    assert "Interrupted (Ctrl-C). All files written so far are complete" in message
    assert not (folder / "out").exists()


def test_restore_mode_reads_every_key_of_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (16, 8)).save(tmp_path / "photo.png")
    config = compose("mode=restore", f"input={tmp_path}/photo.png", f"output={tmp_path}/out")
    keys, read, get_node = set(flatten(OmegaConf.to_container(config))), set(), DictConfig._get_node

    def recorded(node: Any, key: Any, *arguments: Any, **options: Any) -> Any:
        read.add(f"{node._get_full_key(None)}.{key}".lstrip("."))
        return get_node(node, key, *arguments, **options)

    monkeypatch.setattr(DictConfig, "_get_node", recorded)
    restore.run(config)
    assert keys - read == {"mode"}, "only the command line reads mode"
    assert (tmp_path / "out" / "photo.png").exists()
