"""Local copies of files at URLs: in memory, on a local web server and in archives."""

import io
import os
import shutil
import socket
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tests.full_disk import file_size_limit
from tests.web_server import serve

from mprnet_lit.cli.restore_places import Target
from mprnet_lit.data import Prepared
from mprnet_lit.training.checkpoints import AtomicCheckpointIO
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.mirror import fetch, readable
from mprnet_lit.utils.outbox import Outbox, uploaded
from mprnet_lit.utils.remote import Location
from mprnet_lit.utils.url import explained, file_name, is_url, shown
from mprnet_lit.weights.address import parse_address

SECRET = "c4n4ryXYZ"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Empty file system in memory, and an empty cache in the folder of the test."""
    monkeypatch.setenv("MPRNET_LIT_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def is_png(name: str) -> bool:
    return name.endswith(".png")


def copies(place: str) -> dict[str, bytes]:
    """Fetch a place, and return the content of the copies by name."""
    folder = fetch(place, is_png)
    files = (path for path in folder.rglob("*.*") if path.is_file() and path.name[0] != ".")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refusal(place: str) -> str:
    with pytest.raises(UserError) as caught:
        fetch(place, is_png)
    message = str(caught.value)
    assert SECRET not in message and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/a", True),
        ("zip::photos.zip", True),
        ("zip://in::https://host/a.zip", True),
        ("github+x://a", True),
        ("C:\\photos", False),
        ("C://photos", False),
        ("photos/a.png", False),
        ("a::b", False),
        ("/a://b", False),
    ],
)
def test_urls_are_recognized(place: str, expected: bool) -> None:
    assert is_url(place) == expected


def test_folder_is_copied_once_and_updated(memory: Any) -> None:
    for name in ("a.png", "sub/b.png", "sub/note.txt", ".hidden/c.png", "sub/.d.png"):
        memory.pipe(f"/set/{name}", name.encode())
    first = copies("memory://set")
    assert first == {"a.png": b"a.png", "sub/b.png": b"sub/b.png"}
    folder = fetch("memory://set/", is_png)
    assert readable(f"{folder}/a.png") == "memory://set/a.png"
    os.utime(folder / "sub" / "b.png", ns=(5, 5))
    memory.pipe("/set/a.png", b"A.png")
    assert copies("memory://set/") == {**first, "a.png": b"A.png"}
    assert (folder / "sub" / "b.png").stat().st_mtime_ns == 5, "not downloaded again"
    memory.rm("/set/a.png")
    assert copies("memory://set/") == {"sub/b.png": b"sub/b.png"}


def test_globs_exclusions_and_single_files(memory: Any) -> None:
    for name in ("1.png", "in/2.png", "in/deep/2.png", "in/12.png"):
        memory.pipe(f"/set/{name}", name.encode())
    assert set(copies("memory://set/**/2.png")) == {"in/2.png", "in/deep/2.png"}
    assert set(copies("memory://set/*/?2.png")) == {"in/12.png"}
    assert fetch("memory://set/1.png", is_png).read_bytes() == b"1.png"
    kept = fetch("memory://set", is_png, lambda name: name != "1.png", "memory://set/in/deep")
    found = {path.relative_to(kept).as_posix() for path in kept.rglob("*.png")}
    assert found == {"in/2.png", "in/12.png"}
    assert fetch("photos", is_png) == Path("photos")


def test_file_urls_are_local_paths(tmp_path: Path) -> None:
    (tmp_path / "50%25").touch()
    for name, path in (("a%20b.png", "a b.png"), ("50%25", "50%25")):
        for host in ("", "localhost"):
            place = f"file://{host}{tmp_path}/{name}"
            assert fetch(place, is_png) == tmp_path / path
            assert Target(place).local == str(tmp_path / path)
            with uploaded(place, overwrite=False) as local:
                assert local == tmp_path / path


def test_index_pages_of_a_web_server_are_followed(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "site" / "set" / "sub").mkdir(parents=True)
    for name in ("a b.png", "sub/ä.png", "sub/c.txt"):
        (tmp_path / "site" / "set" / name).write_bytes(name.encode())
    (tmp_path / "site" / "other.png").write_bytes(b"not below the folder")
    (tmp_path / "site" / "set" / "sub" / "index.html").write_text(
        '<a href="../">up</a> <a href="/other.png">o</a> <a href="?C=N">n</a>'
        '<a href="%C3%A4.png">x</a> <a href="%2e%2e/%2e%2e/evil.png">x</a>'
    )
    with serve(tmp_path / "site") as server:
        expected = {"a b.png": b"a b.png", "sub/ä.png": "sub/ä.png".encode()}
        assert copies(f"{server}/set/") == copies(f"{server}/set") == expected
        single = fetch(f"{server}/set/a%20b.png?X-Amz-Signature={SECRET}", is_png)
        assert single.name == "a b.png" and single.read_bytes() == b"a b.png"
        assert SECRET not in str(single)
        copy = fetch(f"{server}/set/", is_png) / "a b.png"
        os.utime(copy, ns=(5, 5))
        copies(f"{server}/set/")
        assert copy.stat().st_mtime_ns == 5, "not downloaded again"
    assert not list(tmp_path.rglob("evil.png"))


def test_question_mark_in_a_web_address_starts_a_query(memory: Any, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for name in ("a.png", "b.png"):
        (site / name).write_bytes(name.encode())
    with serve(site) as server:
        assert set(copies(f"{server}/*.png")) == {"a.png", "b.png"}
        for query in ("?size=large", "?a=[1]&b=*", "?path=/x/"):
            single = fetch(f"{server}/a.png{query}", is_png)
            assert single.name == "a.png" and single.read_bytes() == b"a.png"
        assert fetch(f"{server}/?photo=4", is_png).suffix == ".png"
        for page in ("/?C=M;O=D", "?page=2"):
            message = refusal(f"{server}{page}")
            assert "is a web page: pass the address of a file, or of a folder without a" in message


@pytest.mark.parametrize("kind", ["full", "not writable"])
def test_errors_of_the_cache_name_the_cache(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    memory.pipe("/set/a.png", bytes(500_000))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.png").write_bytes(bytes(500_000))
    cache = tmp_path / "cache"
    problem = "File too large"
    if kind == "not writable":  # also for root, whom permissions do not stop
        cache, problem = tmp_path / "file" / "cache", "Not a directory"
        (tmp_path / "file").touch()
        monkeypatch.setenv("MPRNET_LIT_CACHE", str(cache))
    expected = f"can't write into {cache}: {problem}; free disk space or set MPRNET_LIT_CACHE"
    with serve(tmp_path / "site") as server, file_size_limit(100_000):
        for place in ("memory://set/a.png", "memory://set", f"{server}/", f"{server}/a.png"):
            assert expected in readable(refusal(place)), place
        with (
            pytest.raises(UserError) as caught,
            uploaded("memory://out/r.html", overwrite=False) as path,
        ):
            write_atomic(path, bytes(500_000))
        assert expected in readable(str(caught.value))
    if kind == "full":
        usage = shutil.disk_usage(tmp_path)._replace(free=200_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        message = readable(refusal("memory://set"))
        assert f"needs 0.5 MB, but the disk of {cache} has 0.2 MB free: free disk" in message


def test_archives_are_read_without_unsafe_names(memory: Any, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    with zipfile.ZipFile(site / "a.zip", "w") as archive:
        for name in ("in/1.png", "../evil.png", "in/..\\evil.png", "2.png"):
            archive.writestr(name, name)
    with tarfile.open(site / "a.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("t/1.png")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"tar"))
    expected = {"in/1.png": b"in/1.png", "2.png": b"2.png"}
    assert copies(f"zip::{site}/a.zip") == expected
    assert copies(f"tar::{site}/a.tar.gz") == {"t/1.png": b"tar"}
    memory.put_file(str(site / "a.zip"), "/b/a.zip")
    assert copies("zip://in::memory://b/a.zip") == {"1.png": b"in/1.png"}
    with serve(site) as server:  # a server without ranges
        assert copies(f"zip::{server}/a.zip") == expected
    assert not list(tmp_path.rglob("*evil.png"))
    (site / "a.zip").write_bytes(b"text")
    assert "BadZipFile" in refusal(f"zip::{site}/a.zip")
    assert "the archive no.zip does not exist" in refusal("zip::no.zip")


def test_errors_are_one_sentence_without_credentials(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    with serve(tmp_path / "empty") as server:
        query = f"?token={SECRET}"
        assert f"{server}/a.png?*** does not exist" in refusal(f"{server}/a.png{query}")
        for status in ("401", "403"):
            assert "no permission to read" in refusal(f"{server}/{status}/a.png{query}")
        assert "answered with status 500" in refusal(f"{server}/500/a.png{query}")
        assert "was interrupted: repeat the command" in refusal(f"{server}/cut/a.png{query}")
        assert "has no matching file" in refusal(f"{server}/")
    assert not list((tmp_path / "cache").rglob("a.png")), "no part of a file is left"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert "can't reach" in refusal(f"http://user:{SECRET}@127.0.0.1:{port}/a.png")
    assert "memory://no does not exist" in refusal("memory://no")
    with pytest.raises(UserError, match="folder=s3://b must be a local folder"):
        Prepared("s3://b", "train").samples("raise")
    assert "unknown protocol" in refusal(f"nope://user:{SECRET}@host/a")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    message = refusal(f"s3://user:{SECRET}@bucket/a")
    assert "needs a package that is not installed: pip install" in message and "[cloud]" in message
    assert shown(f"https://h/a?sig={SECRET}") == "https://h/a?***"

    class DeniedError(Exception):
        status_code = 403

    def deny(*_: Any, **__: Any) -> None:
        raise DeniedError(f"https://h/?sig={SECRET}")

    monkeypatch.setattr(type(memory), "info", deny)
    assert "no permission to read memory://a" in refusal("memory://a")


def test_uploads_are_whole_and_do_not_replace_the_files_of_others(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox("memory://out")
    outbox.folder.mkdir(parents=True)
    file = outbox.folder / "a.png"
    file.write_bytes(b"first")
    outbox.check([file], overwrite=False)
    outbox.push([file])
    created = memory.created("/out/a.png")
    outbox.push([file])
    assert memory.created("/out/a.png") == created, "an unchanged file is not uploaded again"
    file.write_bytes(b"second")
    outbox.check([file], overwrite=False)

    def broken(source: str, path: str) -> None:
        memory.pipe(path, b"sec")
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(memory, "put_file", broken)
        with pytest.raises(UserError, match=r"can't reach memory://out/a\.png"):
            outbox.push([file])
    assert memory.store.keys() == {"/out/a.png"} and memory.cat("/out/a.png") == b"first"
    outbox.push([file])
    assert memory.cat("/out/a.png") == b"second"
    memory.pipe("/out/a.png", b"of another")
    with pytest.raises(UserError, match="this machine did not write it") as caught:
        outbox.check([file], overwrite=False)
    assert readable(str(caught.value)).startswith("memory://out/a.png would be overwritten")
    outbox.check([file], overwrite=True)


def test_uploads_of_other_processes_of_this_machine_are_known(memory: Any) -> None:
    outbox, other = Outbox("memory://out"), Outbox("memory://out")
    outbox.folder.mkdir(parents=True)
    files = [outbox.folder / f"{k}.png" for k in range(2)]
    for file in files:
        file.write_bytes(b"result")
    outbox.push(files)
    created = [memory.created(f"/out/{file.name}") for file in files]
    other.check(files, overwrite=False)
    other.push(files)
    assert [memory.created(f"/out/{file.name}") for file in files] == created


def test_failed_command_uploads_nothing(memory: Any) -> None:
    with pytest.raises(RuntimeError), uploaded("memory://out/r.html", overwrite=False) as path:
        path.write_text("part")
        raise RuntimeError
    assert not memory.store
    with uploaded("memory://out/r.html", overwrite=False) as path:
        path.write_text("whole")
    assert memory.cat("/out/r.html") == b"whole"
    with (
        pytest.raises(UserError, match="already exists"),
        uploaded("memory://out/r.html", overwrite=False),
    ):
        pass
    with (
        pytest.raises(UserError, match="http does not support it"),
        serve(Path()) as server,
        uploaded(f"{server}/no/r.html", overwrite=True) as path,
    ):
        path.write_text("x")


def test_checkpoint_is_saved_and_removed_at_a_url(memory: Any, tmp_path: Path) -> None:
    import torch

    writer = AtomicCheckpointIO(tmp_path)
    writer.save_checkpoint({"step": 7}, "memory://run/last.ckpt")
    with memory.open("/run/last.ckpt") as file:
        assert torch.load(file, weights_only=True)["step"] == 7
    memory.pipe("/run/other.ckpt", b"of another")
    for name in ("last", "other"):
        writer.remove_checkpoint(f"memory://run/{name}.ckpt")
    assert memory.store.keys() == {"/run/other.ckpt"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b%20c.png", "b c.png"),
        ("/..%2F..%2Fx.jpg", "x.jpg"),
        ("/%2Fhome%2Fx.jpg", "x.jpg"),
        ("/C%3A%5Cx.jpg", "x.jpg"),
        ("/C%3Ax.jpg", "C_x.jpg"),
        ("/..", "file"),
    ],
)
def test_file_names_stay_in_their_folder(path: str, name: str) -> None:
    assert file_name(path) == name


def test_missing_bucket_of_an_upload_is_named() -> None:
    message = explained(FileNotFoundError("no bucket"), "write", "s3://no/out/a.png", "s3")
    assert message.startswith("can't write s3://no/out/a.png: its bucket or folder does not exist")


def test_results_are_kept_if_their_upload_fails(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise UserError("no space")

    monkeypatch.setattr(Location, "upload", refused)
    with (
        pytest.raises(UserError, match="no space; the results are in ") as raised,
        uploaded("memory://data/scores.json", overwrite=False) as path,
    ):
        path.write_text("{}")
    folder = Path(str(raised.value).rpartition(" ")[2])
    assert [each.read_text() for each in folder.iterdir()] == ["{}"]
    shutil.rmtree(folder)


def test_signatures_of_addresses_are_not_shown() -> None:
    assert "SECRET" not in str(parse_address("https://host/w.pth?X-Amz-Signature=SECRET"))
