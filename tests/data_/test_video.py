"""A restored video keeps its times, size, sound and tags, and is written whole or not at all."""

import io
import sys
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from PIL import Image
from tests.conftest import PHOTOS

from mprnet_lit.data.containers import is_cut_short
from mprnet_lit.data.video import count_frames, restore_video
from mprnet_lit.errors import UserError

av = pytest.importorskip("av")

FRAMES = 12
UNEVEN = [0, 40, 80, 200, 240, 333, 400, 401, 500, 540, 580, 620]  # milliseconds


def add_frames(container, stream, size, times, base):
    photo = np.asarray(Image.open(PHOTOS / "chelsea.png").convert("RGB"))[50:]
    for i, time in enumerate(times):
        view = photo[: size[1], 40 + 3 * i :][:, : size[0]]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(view), format="rgb24")
        frame.pts, frame.time_base = time, base
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def add_sound(container, stream, kind):
    tone = np.sin(np.arange(24_000) * 2 * np.pi * 440 / 48_000)[None] * 0.3
    tone = (tone * 32767).astype(np.int16) if kind == "s16" else tone.astype(np.float32)
    frame = av.AudioFrame.from_ndarray(tone, format=kind, layout="mono")
    frame.sample_rate, frame.pts = 48_000, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def add_extras(container):
    """A cover, a second view of one frame, a font and a chapter."""
    cover = io.BytesIO()
    Image.new("RGB", (16, 16)).save(cover, "JPEG")
    container.add_attachment("cover.jpg", "image/jpeg", cover.getvalue())
    container.add_attachment("font.ttf", "font/ttf", b"font")
    chapter = {"id": 1, "start": 0, "end": 400, "time_base": Fraction(1, 1000)}
    container.set_chapters([chapter | {"metadata": {"title": "one"}}])
    view = container.add_stream("mjpeg", 25)
    view.width, view.height, view.pix_fmt = 16, 16, "yuvj420p"
    frame = av.VideoFrame(16, 16, "yuvj420p")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    container.mux(view.encode(frame))
    container.mux(view.encode(None))


def film(
    path,
    codec="libx264",
    sound="aac",
    rate=Fraction(25),
    times=None,
    size=(96, 64),
    turn=0,
    full=0,
    extras=False,
):
    """Half a second of a camera that pans over a cat."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate, options={"crf": "10"})
        stream.width, stream.height = size
        stream.pix_fmt = {"png": "rgb24"}.get(codec, "yuv444p" if size[0] % 2 else "yuv420p")
        base = Fraction(1, 1000) if times else 1 / rate
        stream.codec_context.time_base = base
        if full:
            stream.codec_context.color_range = 2
            stream.codec_context.colorspace = 1
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.metadata["language"] = "cym"
        container.metadata["title"] = "a cat"
        if turn:
            stream.set_display_rotation(turn)
        if sound:
            voice = container.add_stream(sound, 48_000)
            voice.layout = "mono"
        if extras:
            add_extras(container)
        add_frames(container, stream, size, times or range(FRAMES), base)
        if sound:
            add_sound(container, voice, "s16" if sound == "pcm_s16le" else "flt")


def look(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        facts = {
            "rate": stream.average_rate,
            "size": (stream.width, stream.height),
            "shape": stream.sample_aspect_ratio,
            "colours": (stream.color_range, stream.colorspace),
            "title": container.metadata.get("title"),
            "language": stream.language,
        }
        frames = list(container.decode(stream))
        facts["times"] = [frame.pts * frame.time_base for frame in frames]
        facts["rotation"] = frames[0].rotation
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio) if container.streams.audio else ()
        facts["sound"] = [(p.pts * p.time_base, bytes(p)) for p in packets if p.size]
    return facts, pictures


def invert(frame):
    return 255 - frame


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("cinema.mp4", {"rate": Fraction(24_000, 1001), "full": 1}),
        ("uneven.mp4", {"times": UNEVEN}),
        ("uneven.mkv", {"times": UNEVEN, "sound": "pcm_s16le"}),
        ("turned.mov", {"turn": 90}),
        ("odd.mkv", {"size": (95, 63), "sound": None}),
        ("web.webm", {"codec": "libvpx-vp9", "sound": "libopus"}),
        ("old.avi", {"codec": "mpeg4", "sound": "pcm_s16le", "rate": Fraction(24_000, 1001)}),
    ],
)
def test_all_but_the_pictures_is_kept(tmp_path, name, options):
    film(tmp_path / name, **options)
    told = []
    out = tmp_path / "new" / name
    count = restore_video(tmp_path / name, out, invert, lambda *numbers: told.append(numbers))
    assert count == FRAMES == count_frames(tmp_path / name) == count_frames(out)
    assert told == [(i + 1, FRAMES) for i in range(FRAMES)]
    before, pictures = look(tmp_path / name)
    after, inverted = look(out)
    assert after == before
    if options.get("turn"):
        assert after["rotation"] == options["turn"]
    if options.get("times"):
        assert after["times"] == [Fraction(time, 1000) for time in UNEVEN]
    error = np.square(invert(pictures).astype(float) - inverted).mean((1, 2, 3))
    assert (10 * np.log10(255**2 / error)).min() > 36
    assert list(out.parent.iterdir()) == [out]


def test_a_video_may_be_replaced_by_its_restored_self(tmp_path):
    path = tmp_path / "cat.mp4"
    film(path)
    _, before = look(path)
    assert restore_video(path, path, invert) == FRAMES
    assert np.abs(look(path)[1].astype(int) - invert(before)).mean() < 4


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.8, 0.999])
def test_a_video_cut_short_leaves_nothing(tmp_path, name, share):
    path, out = tmp_path / name, tmp_path / "new" / name
    film(path, sound="pcm_s16le" if name != "a.mp4" else "aac")
    whole = path.read_bytes()
    assert not is_cut_short(path)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=rf"{name} .*damaged.*replace or remove it"):
        restore_video(path, out, invert)
    assert list(tmp_path.rglob("*")) == [path]


def test_what_cameras_append_is_not_missed(tmp_path):
    path = tmp_path / "a.mp4"
    film(path)
    path.write_bytes(path.read_bytes() + b"\xff" * 100)
    assert not is_cut_short(path)


def test_what_is_no_video_is_named(tmp_path):
    text, out = tmp_path / "text.mp4", tmp_path / "out.mp4"
    text.write_text("#EXTM3U\nhttp://localhost/a.ts\n")
    with pytest.raises(UserError, match=r"text\.mp4 is no video"):
        restore_video(text, out, invert)
    with pytest.raises(UserError, match=r"there is no video .*gone\.mp4"):
        restore_video(tmp_path / "gone.mp4", out, invert)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        voice = container.add_stream("aac", 48_000)
        voice.layout = "mono"
        add_sound(container, voice, "flt")
    with pytest.raises(UserError, match=r"sound\.mp4 holds no moving pictures"):
        restore_video(tmp_path / "sound.mp4", out, invert)
    assert not out.exists()


def test_what_cannot_be_written_is_said(tmp_path):
    film(tmp_path / "cat.mkv", sound="pcm_s16le")
    restore = partial(restore_video, tmp_path / "cat.mkv", restore=invert)
    with pytest.raises(UserError, match=r"cat\.webm.*audio.*pcm_s16le.*choose \.mkv"):
        restore(tmp_path / "cat.webm")
    with pytest.raises(UserError, match=r"cat\.gif.*use one of \.avi"):
        restore(tmp_path / "cat.gif")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"can't write the video .*cat\.mkv"):
        restore(tmp_path / "file" / "cat.mkv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.mkv", "file"]


@pytest.mark.parametrize(
    ("suffix", "sound", "lost"),
    [
        ("mkv", "pcm_s16le", ""),
        (
            "avi",
            "pcm_s16le",
            "rotation, uneven frame times (the rate is constant), chapters, languages, ",
        ),
        ("webm", None, "the pixel aspect ratio 4/3, "),
    ],
)
def test_what_a_container_does_not_hold_is_said_first(tmp_path, suffix, sound, lost):
    path, out = tmp_path / "rich.mkv", tmp_path / f"out.{suffix}"
    film(path, sound=sound, times=UNEVEN, turn=90, extras=True)
    events = []

    def restore(frame):
        events.append("frame")
        return frame

    assert restore_video(path, out, restore, say=events.append) == FRAMES
    lost += "1 cover image, 1 further video stream, 1 attachment"
    assert events == [f"Not kept from {path} in {out}: {lost}"] + ["frame"] * FRAMES
    before, after = look(path)[0], look(out)[0]
    differing = {name for name in before if before[name] != after[name]}
    assert (
        differing
        <= {
            "mkv": set(),
            "avi": {"rate", "times", "rotation", "language", "sound"},
            "webm": {"shape", "colours"},  # VP9 says that the range is limited
        }[suffix]
    ), (before, after)
    with av.open(str(out)) as container:
        assert len(container.chapters()) == (suffix != "avi")


def test_a_plain_video_needs_no_note(tmp_path):
    film(tmp_path / "cat.mp4")
    restore_video(tmp_path / "cat.mp4", tmp_path / "out.mkv", invert, say=pytest.fail)


@pytest.mark.parametrize(
    ("name", "options", "out", "sentence"),
    [
        ("a.mkv", {"sound": "flac"}, "o.mov", r"\.mov can't hold the audio \(flac\).*choose \.mkv"),
        ("a.mkv", {"sound": "pcm_s16le"}, "o.webm", r"can't hold the audio \(pcm_s16le\)"),
        ("a.mkv", {"codec": "ffv1", "size": (8200, 16), "sound": None}, "o.avi", "8200 x 16 pix"),
    ],
)
def test_what_cannot_be_held_is_refused_before_the_first_frame(
    tmp_path, name, options, out, sentence
):
    film(tmp_path / name, **options)
    with pytest.raises(UserError, match=sentence):
        restore_video(tmp_path / name, tmp_path / out, pytest.fail)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("rate", "times"),
    [
        (Fraction(25), UNEVEN),
        (Fraction(25), [0, 40, 80, 160, 200, 240, 280, 320, 360, 400, 440, 480]),  # one missing
        (Fraction(120_000, 1001), None),  # more than the 16 bits of an MPEG-4 clock
    ],
)
def test_avi_keeps_every_frame_about_at_its_time(tmp_path, rate, times):
    film(tmp_path / "a.mkv", sound=None, rate=rate, times=times)
    assert restore_video(tmp_path / "a.mkv", tmp_path / "a.avi", invert) == FRAMES
    before, after = (look(tmp_path / name)[0]["times"] for name in ("a.mkv", "a.avi"))
    late = [float(b - a) for a, b in zip(before, after, strict=True)]
    assert max(map(abs, late)) < (0.045 if times is UNEVEN else 0.002)


def test_damage_midway_is_named(tmp_path):
    path, out = tmp_path / "a.mov", tmp_path / "out.mov"
    film(path, codec="png", sound=None)
    data = bytearray(path.read_bytes())
    middle = data.index(b"IDAT", len(data) // 2)
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.mov .*replace or remove it"):
        restore_video(path, out, invert)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_an_earlier_file_alone(tmp_path, stop):
    path, out = tmp_path / "cat.mp4", tmp_path / "out.mp4"
    film(path)
    out.write_bytes(b"earlier")

    def progress(done, total):
        if done == 5:
            raise stop

    with pytest.raises(stop):
        restore_video(path, out, invert, progress)
    assert out.read_bytes() == b"earlier"
    assert sorted(tmp_path.iterdir()) == [path, out]


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install -e '.*\[video\]'"):
        count_frames(tmp_path / "a.mp4")
