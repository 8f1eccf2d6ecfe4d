"""Blur by rotations of the camera and by moving parts: geometry, light and blending."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, center_of_mass
from tests.conftest import PHOTOS
from torch.utils.data import default_collate, default_convert

from mprnet_lit.data.degradations import CameraShake, MovingPart, motion_kernel
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear
from mprnet_lit.data.degradations.motion import camera_path
from mprnet_lit.data.degradations.poses import Poses, camera_poses
from mprnet_lit.images.reading import read_image, to_float


@pytest.fixture(scope="module")
def photo() -> NDArray[np.float32]:
    return to_float(read_image(Path(PHOTOS) / "astronaut.png"))[100:260, 100:300]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def point(side: int = 81, value: float = 1.0) -> NDArray[np.float32]:
    image = np.zeros((side, side, 3), np.float32)
    image[side // 2, side // 2] = value
    return image


def seen_at(poses: Poses, x: float, y: float) -> NDArray[np.complex128]:
    """Return the positions x + iy in the sharp image that a pixel of each view shows."""
    views = poses.views[poses.shares > 0].astype(float)
    across, down, depth = (views @ [x, y, 1.0]).T
    positions: NDArray[np.complex128] = (across + 1j * down) / depth
    return positions


def exposed(blur: CameraShake, image: NDArray[np.float32], poses: Poses) -> NDArray[np.float32]:
    """Blur an image (H, W, 3) with the given poses; return it without the margin."""
    clean = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    draw = blur.draw(image.shape[:2], rng()) | poses._asdict()
    blurred = blur.degrade_batch(clean, default_collate([default_convert(draw)]))
    return blurred[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("light", ["linear", "display"])
def test_shake_of_a_long_lens_is_a_convolution(
    seed: int, light: str, photo: NDArray[np.float32]
) -> None:
    path, kernel = camera_path(rng(seed), 0.7), motion_kernel(rng(seed), 12, 0.7)
    # Without roll and with a long focal length, all pixels move along the path.
    angles = np.stack((-path.imag, path.real, 0 * path.real), axis=1)
    poses = camera_poses(angles, photo.shape[:2], 12, 1e6, np.array([100.0, 80.0]))
    blur = CameraShake(12, defocus=0, light=light, highlights=1)
    to_light = srgb_to_linear if light == "linear" else np.asarray
    averaged = np.asarray(cv2.filter2D(to_light(photo), -1, kernel), np.float32)
    expected = linear_to_srgb(averaged) if light == "linear" else averaged
    m = blur.margin
    error = np.abs(exposed(blur, photo, poses) - expected[m:-m, m:-m])
    assert error.mean() < 1.5e-3 and error.max() < 0.03
    assert np.abs(photo - expected).mean() > 0.02


def test_rotation_about_the_optical_axis_blurs_with_the_radius() -> None:
    side = 121
    turn = np.linspace(-1, 1, 400)[:, None] * [0, 0, 1]
    center = np.array([60.0, 60.0])
    poses = camera_poses(turn, (side, side), 17, 1000, center)
    np.testing.assert_allclose(seen_at(poses, 60, 60), 60 + 60j, atol=1e-3)
    angle = 17 / (60 * 2**0.5)  # of a rotation that moves the corners by 17 pixels
    for radius in (20, 40):
        ends = seen_at(poses, 60 + radius, 60)[[0, -1]]
        assert abs(np.diff(ends)[0]) == pytest.approx(radius * angle, rel=0.06)  # half a pose each

    blur = CameraShake(17, light="display", defocus=0)
    y, x = np.mgrid[:side, :side] - 60.0
    radius, phase = np.hypot(x, y), np.arctan2(y, x)
    rings, star = 0.5 + 0.5 * np.cos(radius / 4), 0.5 + 0.5 * np.cos(8 * phase)
    m = blur.margin
    near = (radius > 10)[m:-m, m:-m]
    # The average of cos(8 phase) over an angle is damped by a factor that is independent of radius.
    damped = 0.5 + (star - 0.5) * np.sinc(8 * angle / 2 / np.pi)
    for clean, expected, tolerance in ((rings, rings, 0.02), (star, damped, 0.03)):
        image = clean[..., None].repeat(3, axis=2).astype(np.float32)
        error = exposed(blur, image, poses)[..., 0] - expected[m:-m, m:-m]
        assert np.abs(error[near]).max() < tolerance


@pytest.mark.parametrize("seed", range(8))
def test_paths_are_centered_and_have_the_given_length(seed: int) -> None:
    blur = CameraShake(length=30, roll=(0, 5), focal=(300, 1500))
    draws = blur.draw((160, 160), rng(seed))
    poses = Poses(draws["views"], draws["shares"])
    assert poses.shares.sum() == pytest.approx(1, abs=1e-5)
    edges = [(x, y) for x in (0, 159) for y in (0, 159)]
    paths = [seen_at(poses, *corner) for corner in edges]
    longest = max(np.abs(path[:, None] - path).max() for path in paths)
    assert longest == pytest.approx(30, abs=1.5)
    for path, corner in zip(paths, edges, strict=True):
        mean = (path * poses.shares[poses.shares > 0]).sum()
        assert abs(mean - complex(*corner)) < 0.5
    m = blur.margin
    for x in (m, 159 - m):
        path = seen_at(poses, x, x)
        assert min(path.real.min(), path.imag.min()) >= 0
        assert max(path.real.max(), path.imag.max()) <= 159


@pytest.mark.parametrize("seed", range(4))
def test_poses_of_a_long_path_leave_no_ghosts(seed: int) -> None:
    draws = CameraShake(length=30, shake=0.5).draw((160, 160), rng(seed))
    path = seen_at(Poses(draws["views"], draws["shares"]), 0, 0)
    steps = np.abs(path[:, None] - path) + 99 * np.eye(len(path))
    assert steps.min(axis=1).max() < 3


def test_no_motion_and_no_defocus_return_the_image(photo: NDArray[np.float32]) -> None:
    for blur in (CameraShake(length=0, defocus=0), MovingPart(length=0, defocus=0.5)):
        np.testing.assert_array_equal(blur(photo, rng()), photo)


@pytest.mark.parametrize("seed", range(4))
def test_blur_keeps_the_average_of_its_light(seed: int) -> None:
    gray = point(value=0.8)
    linear = srgb_to_linear(CameraShake(15, light="linear")(gray, rng(seed)))
    assert linear.sum() == pytest.approx(srgb_to_linear(gray).sum(), rel=0.01)
    np.testing.assert_allclose(center_of_mass(linear[..., 0]), (40, 40), atol=0.3)
    display = CameraShake(15, light="display")(gray, rng(seed))
    assert display.sum() == pytest.approx(gray.sum(), rel=0.01)
    lights = {CameraShake(15)(gray, rng(n)).sum() > 1.1 * gray.sum() for n in range(12)}
    assert lights == {False, True}


def test_highlights_brighten_only_the_traces_of_white_pixels() -> None:
    blur = CameraShake(15, defocus=1, light="linear", highlights=3)
    traces = srgb_to_linear(blur(point(), rng()))
    assert traces.sum() == pytest.approx(3 * 3, rel=0.01)
    gray = srgb_to_linear(blur(point(value=0.9), rng()))
    assert gray.sum() == pytest.approx(srgb_to_linear(point(value=0.9)).sum(), rel=0.01)
    white = np.ones((40, 40, 3), np.float32)
    np.testing.assert_allclose(blur(white, rng()), white, atol=1e-5)


def test_defocus_spreads_a_point_over_a_disk() -> None:
    out = CameraShake(0, defocus=4, light="display")(point(), rng())[..., 0]
    y, x = np.mgrid[-40:41, -40:41]
    distance = np.hypot(x, y)
    assert out[distance > 4.5].max() == 0 and out.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(out[distance <= 3.5], 1 / (np.pi * 4**2), rtol=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_part_moves_in_front_of_the_still_background(seed: int, photo: NDArray[np.float32]) -> None:
    motion: dict[str, Any] = {"length": 10, "defocus": 0, "light": "display"}
    blur = MovingPart(area=0.4, **motion)
    mask = blur.draw(photo.shape[:2], rng(seed))["mask"]
    assert mask.mean() == pytest.approx(0.4, abs=0.03)
    out, everywhere = blur(photo, rng(seed)), CameraShake(**motion)(photo, rng(seed))
    still, inside = (
        ~binary_dilation(mask > 0, iterations=14),
        binary_erosion(mask == 1, iterations=14),
    )
    assert still.sum() > 500 and inside.sum() > 500
    np.testing.assert_allclose(out[still], photo[still], atol=1e-5)
    np.testing.assert_allclose(out[inside], everywhere[inside], atol=1e-5)
    # A light part before a dark wall: the mixture follows the time that the part covers a pixel.
    flat = np.where(mask > 0, 0.8, 0.2).astype(np.float32)[..., None].repeat(3, axis=2)
    cover = CameraShake(**motion)(mask[..., None].repeat(3, axis=2), rng(seed))
    assert np.abs(blur(flat, rng(seed)) - (0.2 + 0.6 * cover)).mean() < 0.005
