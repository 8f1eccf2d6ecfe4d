"""Helpers that write a short test video and read the properties of a video."""

import contextlib
import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from tests.conftest import PHOTOS

FRAMES = 12
UNEVEN = [0, 40, 80, 200, 240, 333, 400, 401, 500, 540, 580, 620]  # milliseconds


def add_frames(container: Any, stream: Any, size: tuple[int, int], times: Any, base: Any) -> None:
    photo = np.asarray(Image.open(PHOTOS / "chelsea.png").convert("RGB"))[50:]
    for i, time in enumerate(times):
        view = photo[: size[1], 40 + 3 * i :][:, : size[0]]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(view), format="rgb24")
        frame.pts, frame.time_base = time, base
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def add_sound(container: Any, stream: Any, kind: Any) -> None:
    tone = np.sin(np.arange(24_000) * 2 * np.pi * 440 / 48_000)[None] * 0.3
    tone = (tone * 32767).astype(np.int16) if kind == "s16" else tone.astype(np.float32)
    frame = av.AudioFrame.from_ndarray(tone, format=kind, layout="mono")
    frame.sample_rate, frame.pts = 48_000, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def add_extras(container: Any) -> None:
    """Add a cover image, a second video stream of one frame, a font and a chapter."""
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


class SequentialFile:
    """File without ``seek``."""

    def __init__(self, file: Any) -> None:
        self.write = file.write


def fail_on_frame(frame: Any) -> Any:
    """Fail, since the video must be refused before its first frame."""
    pytest.fail("a frame was restored")


def write_video(
    path: Path,
    codec: str = "libx264",
    sound: str | None = "aac",
    rate: Fraction = Fraction(25),
    times: Any = None,
    size: tuple[int, int] = (96, 64),
    rotation: int = 0,
    full: int = 0,
    extras: bool = False,
    live: bool = False,
    movflags: str = "",
) -> None:
    """Write half a second of a camera that pans over a cat.

    ``live`` writes into a file that cannot be rewound, so that no length is declared.
    """
    with contextlib.ExitStack() as stack:
        target: Any = str(path)
        options = {"movflags": movflags} if movflags else {}
        if live:
            target = SequentialFile(stack.enter_context(path.open("wb")))
        form = {".mkv": "matroska"}.get(path.suffix, path.suffix[1:])
        container = stack.enter_context(av.open(target, "w", format=form, options=options))
        stream: Any = container.add_stream(codec, rate, options={"crf": "10"})
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
        if rotation:
            stream.set_display_rotation(rotation)
        if sound:
            voice: Any = container.add_stream(sound, 48_000)
            voice.layout = "mono"
        if extras:
            add_extras(container)
        add_frames(container, stream, size, times or range(FRAMES), base)
        if sound:
            add_sound(container, voice, "s16" if sound == "pcm_s16le" else "flt")


def read_video(path: Path) -> tuple[dict[str, Any], Any]:
    """Return the properties and the frames (N, H, W, 3) of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        properties: dict[str, Any] = {
            "rate": stream.average_rate,
            "size": (stream.width, stream.height),
            "shape": stream.sample_aspect_ratio,
            "color": (stream.color_range, stream.colorspace),
            "title": container.metadata.get("title"),
            "language": stream.language,
        }
        frames: list[Any] = list(container.decode(stream))
        properties["times"] = [frame.pts * frame.time_base for frame in frames]
        properties["rotation"] = frames[0].rotation
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    with av.open(str(path)) as container:
        audio = container.streams.audio
        packets: Iterable[Any] = container.demux(audio) if audio else ()
        properties["sound"] = [(p.pts * p.time_base, bytes(p)) for p in packets if p.size]
    return properties, pictures
