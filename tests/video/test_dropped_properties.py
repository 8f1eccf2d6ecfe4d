"""Properties that the output container drops are listed before the first frame is restored."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mprnet_lit.utils.errors import UserError
from mprnet_lit.video.restore import restore_video

av = pytest.importorskip("av")
from tests.video.clips import FRAMES, UNEVEN, fail_on_frame, read_video, write_video


def identity(frame: Any) -> Any:
    return frame


@pytest.mark.parametrize(
    ("suffix", "sound", "dropped"),
    [
        ("mkv", "pcm_s16le", ""),
        (
            "avi",
            "pcm_s16le",
            "rotation, the variable frame rate (a constant rate is written), chapters, languages, ",
        ),
        ("webm", None, "the pixel aspect ratio 4/3, "),
    ],
)
def test_dropped_properties_are_listed_first_and_others_kept(
    tmp_path: Path, suffix: str, sound: str | None, dropped: str
) -> None:
    path, out = tmp_path / "rich.mkv", tmp_path / f"out.{suffix}"
    write_video(path, sound=sound, times=UNEVEN, rotation=90, extras=True)
    events = []

    def restore(frame: Any) -> Any:
        events.append("frame")
        return frame

    assert restore_video(path, out, restore, notify=events.append).frames == FRAMES
    dropped += "1 cover image, 1 additional video stream, 1 attachment"
    assert events == [f"{path}: the output drops {dropped}"] + ["frame"] * FRAMES
    before, after = read_video(path)[0], read_video(out)[0]
    differing = {name for name in before if before[name] != after[name]}
    assert (
        differing
        <= {
            "mkv": set(),
            "avi": {"rate", "times", "rotation", "language", "sound"},
            "webm": {"shape", "color"},  # VP9 always signals limited range
        }[suffix]
    ), (before, after)
    with av.open(str(out)) as container:
        assert len(container.chapters()) == (suffix != "avi")


def test_plain_video_has_no_dropped_properties(tmp_path: Path) -> None:
    write_video(tmp_path / "cat.mp4")
    restore_video(tmp_path / "cat.mp4", tmp_path / "out.mkv", identity, notify=pytest.fail)


@pytest.mark.parametrize(
    ("name", "options", "out", "sentence"),
    [
        (
            "a.mkv",
            {"sound": "flac"},
            "o.mov",
            r"\.mov does not support the audio \(flac\).*choose \.mkv",
        ),
        ("a.mkv", {"sound": "pcm_s16le"}, "o.webm", r"not support the audio \(pcm_s16le\)"),
        ("a.mkv", {"codec": "ffv1", "size": (8200, 16), "sound": None}, "o.avi", "8200 x 16 pix"),
    ],
)
def test_unsupported_output_is_refused_before_the_first_frame(
    tmp_path: Path, name: str, options: dict[str, Any], out: str, sentence: str
) -> None:
    write_video(tmp_path / name, **options)
    with pytest.raises(UserError, match=sentence):
        restore_video(tmp_path / name, tmp_path / out, fail_on_frame)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("rate", "times"),
    [
        (Fraction(25), UNEVEN),
        (
            Fraction(25),
            [0, 40, 80, 160, 200, 240, 280, 320, 360, 400, 440, 480],
        ),  # one frame missing
        (Fraction(120_000, 1001), None),  # exceeds the 16-bit clock of MPEG-4
    ],
)
def test_avi_approximates_the_time_stamps(tmp_path: Path, rate: Fraction, times: Any) -> None:
    write_video(tmp_path / "a.mkv", sound=None, rate=rate, times=times)
    assert restore_video(tmp_path / "a.mkv", tmp_path / "a.avi", identity).frames == FRAMES
    before, after = (read_video(tmp_path / name)[0]["times"] for name in ("a.mkv", "a.avi"))
    late = [float(b - a) for a, b in zip(before, after, strict=True)]
    assert max(map(abs, late)) < (0.045 if times is UNEVEN else 0.002)
