"""Listing of folders with links, hidden files and unsupported files, and messages about them."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mprnet_lit.data.sources import CleanFolder, PairedFolders
from mprnet_lit.images.formats import IMAGE_SUFFIXES
from mprnet_lit.images.listing import list_images, skip_messages
from mprnet_lit.utils.errors import UserError


def touch(folder: Path, *names: Any) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def names(folder: Path, listing: Any) -> list[Any]:
    return [path.relative_to(folder).as_posix() for path in listing.files]


def test_listing_follows_links_and_counts_unsupported_files(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "sub/a.JPG", ".hidden.png", ".cache/c.png", "notes.txt")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list_images(tmp_path).files == [tmp_path / "b.png", tmp_path / "sub/a.JPG"]
    for path, message in (
        (tmp_path / "gone", "does not exist"),
        (tmp_path / "b.png", "not a folder"),
    ):
        with pytest.raises(UserError, match=message):
            list_images(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"contains no images.*\.png"):
        list_images(tmp_path / "empty")


def test_linked_folders_are_listed_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    touch(folder, "z/deep/a.png")
    touch(tmp_path, "elsewhere/b.png", "elsewhere/more/c.png")
    (folder / "again").symlink_to("z/deep")  # sorts before its target
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "linked2").symlink_to(tmp_path / "elsewhere" / "more")
    (folder / ".hidden").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (folder / "gone").symlink_to("nowhere")
    (folder / "circle").symlink_to("circle")
    found = ["linked/b.png", "linked/more/c.png", "z/deep/a.png"]
    assert names(folder, list_images(folder)) == found


def test_unsupported_formats_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.CR2", "sub/c.cr2", "sub/d.Gif", ".e.gif", "notes.txt", "f.m4v")
    (line,) = skip_messages(list_images(tmp_path))
    assert line == "Skipped 4 files that are not supported images: 2 .cr2, 1 .gif, 1 .m4v"
    listing = list_images(tmp_path, IMAGE_SUFFIXES | {".gif", ".m4v"})
    assert names(tmp_path, listing) == ["a.png", "f.m4v", "sub/d.Gif"]
    (line,) = skip_messages(listing, "images or videos")
    assert line == "Skipped 2 files that are not supported images or videos: 2 .cr2"
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"contains no images .*, only 2 \.cr2, 1 \.gif, 1 \.m4v"):
        list_images(tmp_path)


def test_training_sources_report_skipped_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a_noisy.png", "a_clean.png", "b_noisy.png", "b_clean.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    touch(tmp_path, "c_noisy.gif", "c_clean.gif", "other.dng")
    with caplog.at_level(logging.WARNING):
        assert len(CleanFolder(tmp_path).samples("raise")) == 4
        where = f"(in {tmp_path})"
        counted = "Skipped 3 files that are not supported images: 2 .gif, 1 .dng"
        assert caplog.messages == [f"{counted} {where}"]
        caplog.clear()
        pairs = PairedFolders(tmp_path, tmp_path, "*_noisy", "*_clean")
        assert len(pairs.samples("raise")) == 2
    one = "Skipped 1 file that is not one of the supported images: 1 .gif"
    assert caplog.messages == [f"{one} {where}"], "one warning, about files that match a pattern"
