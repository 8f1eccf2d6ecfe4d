"""Frames that can't be decoded or have a wrong checksum are refused, the last ones too."""

from pathlib import Path

import pytest

from mprnet_lit.utils.errors import UserError
from mprnet_lit.video.restore import restore_video

av = pytest.importorskip("av")
from tests.video.clips import FRAMES, write_video

CODECS = {"a.mp4": "libx264", "a.avi": "mpeg4", "a.mov": "png"}


@pytest.mark.parametrize("frame", [FRAMES // 2, FRAMES - 1])  # FFmpeg may drop a bad last frame
@pytest.mark.parametrize(("name", "codec"), CODECS.items())
def test_damaged_frame_is_refused(tmp_path: Path, name: str, codec: str, frame: int) -> None:
    path = tmp_path / name
    write_video(path, codec=codec, sound=None)
    with av.open(str(path)) as video:
        packets = [(p.pos, p.size) for p in video.demux(video=0) if p.size and p.pos is not None]
    start, size = packets[frame]
    damage(path, start, size // 2)
    with pytest.raises(UserError, match=rf"{name} .*replace or remove it"):
        restore_video(path, tmp_path / f"out_{name}", lambda frames: frames)
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_checksum_in_a_frame_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    write_video(path, codec="png", sound=None)
    chunk = path.read_bytes().index(b"IDAT")
    length = int.from_bytes(path.read_bytes()[chunk - 4 : chunk])
    damage(path, chunk + 4 + length, 4)
    with pytest.raises(UserError, match=r"a\.mov .*replace or remove it"):
        restore_video(path, tmp_path / "out.mov", lambda frames: frames)
    assert list(tmp_path.iterdir()) == [path]


def damage(path: Path, start: int, length: int) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + length] = bytes(byte ^ 0x5A for byte in content[start : start + length])
    path.write_bytes(content)
