"""Photos that wait: batches, place in the line, limited memory and length."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest
from PIL import Image
from tests.conftest import PHOTOS, smallest_network

from mprnet_lit import Restorer
from mprnet_lit.images.reading import Pixels
from mprnet_lit.serving.batches import Batches
from mprnet_lit.serving.limits import Limits
from mprnet_lit.serving.photo_restorer import _MAX_IMAGES, Options, PhotoRestorer
from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.serving.waiting_line import WAITING, BusyError, WaitingLine


def wait_until(is_true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if is_true():
            return
        threading.Event().wait(0.005)
    raise AssertionError("too late")


def enough() -> float:
    return 10.0


class Blocked(Restorer):
    """Network in memory that waits for an event, and records the shapes of its inputs."""

    def __init__(self) -> None:
        super().__init__(smallest_network(), device="cpu", tile="auto")
        self.shapes: list[Any] = []
        self.go, self.entered = threading.Event(), threading.Event()

    def __call__(self, image: Any, progress: Any = None) -> Any:
        self.shapes.append(image.shape)
        self.entered.set()
        self.go.wait(20)
        return super().__call__(image, progress)


def test_photos_of_equal_size_and_options_are_restored_as_one_batch(tmp_path: Path) -> None:
    network = Blocked()
    restorer = PhotoRestorer({"a": "a.pth"}, lambda file, tlc: network)
    uploads = Uploads(tmp_path / "made", 50, 60)
    cat = Image.open(PHOTOS / "chelsea.png")
    photos = []
    for k, side in enumerate((40, 40, 40, 40, 48)):
        photos.append(tmp_path / f"{k}.png")
        cat.crop((50 + 20 * k, 60, 50 + 20 * k + side, 60 + 32)).save(photos[-1])

    def restore(path: Path, strength: float = 1.0) -> Any:
        with restorer.turn(path, Options("a", strength=strength), Limits(1, 1)) as turn:
            return np.asarray(Image.open(restorer.restore(turn, uploads).file))

    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(restore, photos[0])
        assert network.entered.wait(20)  # the other photos arrive while the device is busy
        others = [pool.submit(restore, photo) for photo in photos[1:]]
        weak = pool.submit(restore, photos[1], 0.5)
        wait_until(lambda: sum(map(len, restorer._batches._waiting.values())) == 5)
        network.go.set()
        made = [each.result() for each in (first, *others)]
        half = weak.result().astype(int)
    assert sorted(map(len, network.shapes)) == [3, 3, 3, 4]  # one batch and three single photos
    assert (3, 32, 40, 3) in network.shapes
    single = Restorer(smallest_network(), device="cpu", tile="auto")
    for path, image in zip(photos, made, strict=True):
        expected = single(np.asarray(Image.open(path)))
        assert np.abs(image.astype(int) - expected).max() <= 1, path
    assert np.abs(half - (made[1].astype(int) + np.asarray(Image.open(photos[1]))) / 2).max() <= 1
    assert not restorer._batches._waiting and not restorer.line.length


def test_images_of_a_failed_batch_are_restored_singly() -> None:
    batches, busy = Batches(), threading.Event()

    def network(pixels: Pixels) -> Any:
        if pixels.ndim == 4:
            raise MemoryError
        if pixels.flat[0] == 3:
            raise ValueError("three")
        busy.wait(20)
        return pixels + 1

    images = [np.full((1, 1, 3), k, np.uint8) for k in range(5)]
    with ThreadPoolExecutor(5) as pool:
        done = [pool.submit(batches.restore, image, "", network, 8) for image in images]
        wait_until(lambda: sum(map(len, batches._waiting.values())) == 4)
        busy.set()
        for k in (0, 1, 2, 4):
            assert done[k].result()[0].flat[0] == k + 1
        with pytest.raises(ValueError, match="three"):
            done[3].result()


def test_wrong_number_of_results_fails_no_image_of_the_batch() -> None:
    batches, busy = Batches(), threading.Event()

    def network(pixels: Pixels) -> Any:
        busy.wait(20)
        return pixels[:-1] + 1 if pixels.ndim == 4 else pixels + 1

    images = [np.full((1, 1, 3), k, np.uint8) for k in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(batches.restore, image, "", network, 8) for image in images]
        wait_until(lambda: sum(map(len, batches._waiting.values())) == 3)
        busy.set()
        assert [each.result()[0].flat[0] for each in done] == [1, 2, 3, 4]


def test_photo_leaves_the_line_if_the_free_memory_is_unknown() -> None:
    def unknown() -> float:
        raise OSError("no /proc")

    line = WaitingLine()
    with line.joined(1, enough):
        with pytest.raises(OSError, match="no /proc"), line.joined(1, unknown):
            pass
        assert not line.length
    with line.joined(1, enough) as ticket:
        assert ticket.place == 0


def test_photos_in_the_line_leave_threads_for_uploads_and_downloads() -> None:
    async def threads() -> float:
        return anyio.to_thread.current_default_thread_limiter().total_tokens

    assert anyio.run(threads) - WAITING - 2 * _MAX_IMAGES >= 4


def test_line_serves_in_order_within_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mprnet_lit.serving.waiting_line.WAITING", 2)
    line, leave = WaitingLine(), []
    tickets = []
    for needed, name in ((6, None), (3, None), (2, "mine"), (1, None)):
        stack = ExitStack()
        tickets.append(stack.enter_context(line.joined(needed, enough, 2, name)))
        leave.append(stack.close)
    # The last photo would fit, but photos are served in the order of their arrival.
    assert [ticket.place for ticket in tickets] == [0, 0, 1, 2]
    assert [ticket.is_alone for ticket in tickets[:2]] == [True, False]
    assert (line.length, line.place("mine"), line.place("other")) == (2, 1, None)
    with pytest.raises(BusyError, match="try again later"), line.joined(1, enough):
        pass
    assert tickets[3].wait(known=1) == 2  # returns at once
    with ThreadPoolExecutor(2) as pool:
        turn, change = pool.submit(tickets[2].wait), pool.submit(tickets[3].wait, 2)
        leave[1]()
        assert (turn.result(20), change.result(20)) == (0, 0)  # 6 + 2 + 1 <= 10
    assert line.place("mine") == 0
    for each in (leave[0], leave[2], leave[3]):
        each()
    with line.joined(1, enough), line.joined(1, enough) as second, line.joined(1, enough) as third:
        assert (second.place, third.place) == (0, 1)  # photos that are not restored as a batch
    with line.joined(99, enough) as large:  # alone, and refused by check_memory
        assert large.place == 0 and large.is_alone
    assert not line.length and not line._served
